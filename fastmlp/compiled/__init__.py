"""All that Numba compiles, and how: README.md says where each line lives. Nothing here knows what stands above."""
