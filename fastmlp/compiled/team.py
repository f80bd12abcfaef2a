"""The team: threads of our own that help whoever asks, and that nobody waits for.

A parallel region of OpenMP or oneTBB ends only when each of its threads has run. Where something else has the core of
one (another process, an idle thread of BLAS that still looks for work), all wait for it: 8 ms for a prediction of 0.4.
So helpers are threads that stay here (`serve`), and a caller offers them his job (`hire`), begins, and takes back what
nobody has come for when he has done it all himself (`dismiss`). He waits only for those who have begun.

A job is done in passes, one after the other, and each pass in as many pieces as the job has threads (`take_part`).
Piece p is thread p's, as its caches hold what it needs; who is done with his own takes those that nobody has begun. A
pass is over when all its pieces are done, whoever did them; so a thread that comes late, or has lost its core between
two pieces, holds up no pass. At the end of a job, and when helpers are sent away, the caller waits for those who have
come. Piece 0 is the caller's alone: he keeps the books in it. The results do not depend on who does which piece.

`team` is an array that outlives all jobs: how many workers there are and how many threads compute, then a line for
each worker. A worker's line holds its state (free, taken, asleep, or the job that it is offered: the address, plus the
number of the thread that it would be) and its lock, one of CPython's, on which it sleeps.
"""

from fastmlp.compiled import jit
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.tile import (
    TICKS_A_SECOND,
    acquire,
    address_of,
    atomic_add,
    atomic_load,
    atomic_replace,
    call,
    give_way,
    memory,
    pause,
    pointer,
    release,
    skip,
    ticks,
)

# places in `team`, on cache lines of their own: how many workers there are; how many threads of callers with helpers
# compute; since when callers do without helpers, and for how long, and what time they have lost by them (see
# `keep_pace`); the workers' lines, and how long each is
WORKERS, ACTIVE, SINCE, ABSENCE, LOST, LINES, LINE = 0, 8, 16, 17, 18, 24, 8
# in a worker's line: its state, its lock
STATE, LOCK = 0, 1
# states of a worker; what is greater is an offer
FREE, TAKEN, ASLEEP = range(3)
# a job lies at a multiple of this, so that an offer can name the thread too; more threads than that there are not
JOB_ALIGNMENT = 4096
# first columns of a job: where the team is, the kernel that does a thread's part, and what this is called with; how
# many threads it is cut for, and how many passes it has; how many helpers the caller has asked, and whether they shall
# leave; then what `keep_pace` keeps: for how many batches the caller wants none, in how many he will try how long a
# batch takes him alone, how long it took, and how long with helpers
(
    TEAM_AT, WORK_AT, X_GIVEN, P_GIVEN, THREADS, PASSES, HIRED, LEAVE, SOLO, TRIAL_IN, TIME_ALONE, TIME_HELPED,
    TEAM_COLUMNS,
) = range(13)  # fmt: skip
# on cache lines of their own: pieces done, helpers that are here, that are gone; a line for each thread: the pass whose
# piece is to be begun next
DONE, PRESENT, GONE, CLAIMS = 48, 56, 64, 72
# how often a thread looks for what it waits for until it gives way, a worker until it sleeps, a thread until it takes
# another one's piece
SPINS, IDLE, PATIENCE = 2_000, 6_000, 100
# Of a trial: after how many batches it comes first, and then, or if they are long, for each thread; for how many.
FIRST_TRIAL, NEXT_TRIAL, TRIAL, LONG = 4, 500, 3, TICKS_A_SECOND // 2_000
# How much time helpers may cost before the caller does without them, for how many times as long; and how much of what
# they have gained counts against that, for each.
SLACK, TIMES, CREDIT = TICKS_A_SECOND // 10_000, 64, TICKS_A_SECOND // 200


def job_size(threads):
    """How many numbers a job for so many threads has."""
    return CLAIMS + LINE * threads


# ---- workers ----------------------------------------------------------------------------------------------------


@inlined
def wait(spins):
    """For a moment awake; then, in case another thread needs this core, give way to it."""
    if spins < SPINS:
        pause()
    else:
        give_way()


@jit.entry({})
def serve(team_, worker):
    """What a worker does for as long as the process lives."""
    team, spins = pointer(team_), 0
    line = skip(team, LINES + worker * LINE)
    while True:
        offer = atomic_load(line, STATE)
        if offer > ASLEEP:
            if atomic_replace(line, STATE, offer, TAKEN):
                p = offer % JOB_ALIGNMENT
                job = memory(team, offer - p)
                atomic_add(job, PRESENT, 1)
                call(job[WORK_AT], job, p, job[X_GIVEN], job[P_GIVEN])
                atomic_add(job, PRESENT, -1)
                atomic_add(job, GONE, 1)  # now the job may be gone, too
                atomic_replace(line, STATE, TAKEN, FREE)
            spins = 0
        elif spins < IDLE:
            wait(spins)
            spins += 1
        elif atomic_replace(line, STATE, FREE, ASLEEP):
            acquire(line[LOCK])
            spins = 0


# ---- the caller -------------------------------------------------------------------------------------------------


@inlined
def hire(job):
    """Offer the job to workers that have nothing to do, as many as it has pieces for.

    The threads of all callers with helpers are together not to be more than this one's job has.
    """
    team, wanted, w = memory(job, job[TEAM_AT]), job[THREADS] - 1, 0
    job[HIRED] = job[LEAVE] = 0
    while w < team[WORKERS] and job[HIRED] < wanted and atomic_load(team, ACTIVE) < job[THREADS]:
        line = skip(team, LINES + w * LINE)
        state, offer = atomic_load(line, STATE), address_of(job) + job[HIRED] + 1
        if (state == FREE or state == ASLEEP) and atomic_replace(line, STATE, state, offer):
            atomic_add(team, ACTIVE, 1)
            job[HIRED] += 1
            if state == ASLEEP:
                release(line[LOCK])
        w += 1


@inlined
def dismiss(job):
    """Take back what nobody has come for; wait for those who have begun, until they are done."""
    team, came, w, spins = memory(job, job[TEAM_AT]), job[HIRED], 0, 0
    atomic_replace(job, LEAVE, 0, 1)
    while w < team[WORKERS] and job[HIRED] > 0:
        line = skip(team, LINES + w * LINE)
        offer = atomic_load(line, STATE)
        if address_of(job) < offer < address_of(job) + JOB_ALIGNMENT and atomic_replace(line, STATE, offer, FREE):
            came -= 1
        w += 1
    while atomic_load(job, GONE) < came:
        wait(spins)
        spins += 1
    atomic_add(job, GONE, -came)
    atomic_add(team, ACTIVE, -job[HIRED])
    job[HIRED] = 0


@inlined
def hire_or_dismiss(job):
    """Between two passes: as the pace is that the caller keeps."""
    team = memory(job, job[TEAM_AT])
    wanted = job[SOLO] == 0 and not 0 <= ticks() - team[SINCE] < team[ABSENCE]  # clocks may be set back
    if wanted and job[HIRED] == 0:
        hire(job)
    elif job[HIRED] > 0 and not wanted:
        dismiss(job)


@inlined
def keep_pace(job, team, time, helpers, now):
    """After a batch that took this time, with so many helpers, or -1 if they came or left: are they worth it?

    They make it faster, unless something else wants their cores: then all wait, when a helper has lost its core in the
    middle of a piece, a hundred times as long as the piece takes. Or unless the cores are far apart and the network
    small. So what batches take longer with helpers than without is added up; where they cost more than they have gained
    lately, the caller does without them for a while, so long that trying them again costs a hundredth or two.

    How long a batch takes without helpers is seen until they come, and tried now and then; before, it is taken as what
    all threads take together. Of several times the shortest counts, but older ones less and less: stalls are left out.
    """
    if helpers == 0:
        job[TIME_ALONE] = min(time, job[TIME_ALONE] + job[TIME_ALONE] // 16) if job[TIME_ALONE] > 0 else time
    elif helpers == job[HIRED]:
        job[TIME_HELPED] = min(time, job[TIME_HELPED] + job[TIME_HELPED] // 16) if job[TIME_HELPED] > 0 else time
    if job[HIRED] > 0:
        alone = job[TIME_ALONE] if job[TIME_ALONE] > 0 else job[THREADS] * job[TIME_HELPED]
        if alone > 0:
            lose(job, team, time - alone, TRIAL * alone, now)
        job[TRIAL_IN] -= 1
        if 0 < job[TIME_HELPED] and job[TRIAL_IN] <= (0 if job[TIME_HELPED] < LONG else -NEXT_TRIAL * job[THREADS]):
            job[SOLO], job[TRIAL_IN], job[TIME_ALONE] = TRIAL, NEXT_TRIAL * job[THREADS], 0
    elif job[SOLO] > 0:
        job[SOLO] -= 1


@inlined
def lose(job, team, time, more, now):
    """Helpers have cost this time; if that is too much (SLACK and `more`), do without them for a while."""
    lost = max(team[LOST] + time, -CREDIT * (job[THREADS] - 1))
    if lost > SLACK + more:
        team[SINCE], team[ABSENCE], lost = now, TIMES * lost, 0
    team[LOST] = lost


@inlined
def begin(job):
    """Before the first pass of a job: nothing is done, and this thread computes."""
    job[HIRED] = job[DONE] = 0
    for p in range(job[THREADS]):
        job[CLAIMS + p * LINE] = 0
    atomic_add(memory(job, job[TEAM_AT]), ACTIVE, 1)


@inlined
def end(job):
    """After the last one."""
    dismiss(job)
    atomic_add(memory(job, job[TEAM_AT]), ACTIVE, -1)


# ---- pieces of a pass -------------------------------------------------------------------------------------------


@inlined
def claim(job, p, s):
    """Whether piece p of pass s is this thread's to do: nobody has begun it."""
    place = CLAIMS + p * LINE
    return atomic_load(job, place) == s and atomic_replace(job, place, s, s + 1)
