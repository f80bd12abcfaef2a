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

The records TEAM and its WORKERs outlive all jobs.
"""

from fastmlp.compiled import jit
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.records import JOB_ALIGNMENT, job_at, team_at
from fastmlp.compiled.storage import kernel
from fastmlp.compiled.tile import (
    CACHE_LINE,
    CORES,
    TICKS_A_SECOND,
    acquire,
    address_of,
    atomic_add,
    atomic_load,
    atomic_replace,
    call,
    get_cores,
    give_way,
    pause,
    release,
    set_cores,
    skip,
    this_core,
    ticks,
)

# states of a worker; what is greater is an offer
FREE, TAKEN, ASLEEP = range(3)
# how often a thread looks for what it waits for until it gives way, a worker until it sleeps, a thread until it takes
# another one's piece
SPINS, IDLE, PATIENCE = 2_000, 6_000, 100
# Of a trial: after how many batches it comes first, and then, or if they are long, for each thread; for how many.
FIRST_TRIAL, NEXT_TRIAL, TRIAL, LONG = 4, 500, 3, TICKS_A_SECOND // 2_000
# How much time helpers may cost before the caller does without them, for how many times as long; and how much of what
# they have gained counts against that, for each.
SLACK, TIMES, CREDIT = TICKS_A_SECOND // 10_000, 64, TICKS_A_SECOND // 200


# ---- workers ----------------------------------------------------------------------------------------------------


@inlined
def wait(spins):
    """For a moment awake; then, in case another thread needs this core, give way to it."""
    if spins < SPINS:
        pause()
    else:
        give_way()


@inlined
def wake(worker):
    """Wake a worker, on another core than this thread's if it may use one.

    The system may like to wake it on this one, where it waits for the caller's job to end. Once awake it may go to any
    core that the caller may use.
    """
    allowed, others, core = worker.cores, skip(worker.cores, CORES // 64), this_core()
    if worker.thread > 0 and 0 <= core < CORES and get_cores(allowed) == 0:
        for q in range(CORES // 64):
            others[q] = allowed[q]
        others[core // 64] &= ~(1 << core % 64)
        set_cores(worker.thread, others)
    release(worker.lock[0])


@inlined
def sleep(worker):
    """Until somebody wakes this worker."""
    acquire(worker.lock[0])
    if worker.thread > 0:
        set_cores(0, worker.cores)


@jit.entry({})
def serve(team_words, w):
    """What worker w does for as long as the process lives."""
    team, spins = team_at(team_words, None), 0
    worker = team.workers[w]
    while True:
        offer = atomic_load(worker.state, 0)
        if offer > ASLEEP:
            if atomic_replace(worker.state, 0, offer, TAKEN):
                p = offer % JOB_ALIGNMENT
                job = job_at(offer - p, None)
                atomic_add(job.present, 0, 1)
                call(job.work, (job, p, job.X))
                atomic_add(job.present, 0, -1)
                atomic_add(job.gone, 0, 1)  # now the job may be gone, too
                atomic_replace(worker.state, 0, TAKEN, FREE)
            spins = 0
        elif spins < IDLE:
            wait(spins)
            spins += 1
        elif atomic_replace(worker.state, 0, FREE, ASLEEP):
            sleep(worker)
            spins = 0


# ---- the caller -------------------------------------------------------------------------------------------------


@inlined
def hire(job):
    """Offer the job to workers that have nothing to do, as many as it has pieces for.

    The threads of all callers with helpers are together not to be more than this one's job has.
    """
    team, wanted, w = job.team, job.threads - 1, 0
    job.hired = job.leave[0] = 0
    while w < team.worker_count and job.hired < wanted and atomic_load(team.active, 0) < job.threads:
        worker = team.workers[w]
        state, offer = atomic_load(worker.state, 0), address_of(job) + job.hired + 1
        if (state == FREE or state == ASLEEP) and atomic_replace(worker.state, 0, state, offer):
            atomic_add(team.active, 0, 1)
            job.hired += 1
            if state == ASLEEP:
                wake(worker)
        w += 1


@inlined
def dismiss(job):
    """Take back what nobody has come for; wait for those who have begun, until they are done."""
    team, came, w, spins = job.team, job.hired, 0, 0
    atomic_replace(job.leave, 0, 0, 1)
    while w < team.worker_count and job.hired > 0:
        worker = team.workers[w]
        offer = atomic_load(worker.state, 0)
        ours = address_of(job) < offer < address_of(job) + JOB_ALIGNMENT
        if ours and atomic_replace(worker.state, 0, offer, FREE):
            came -= 1
        w += 1
    while atomic_load(job.gone, 0) < came:
        wait(spins)
        spins += 1
    atomic_add(job.gone, 0, -came)
    atomic_add(team.active, 0, -job.hired)
    job.hired = 0


@inlined
def hire_or_dismiss(job):
    """Between two passes: as the pace is that the caller keeps."""
    team = job.team
    wanted = job.solo == 0 and not 0 <= ticks() - team.since < team.absence  # clocks may be set back
    if wanted and job.hired == 0:
        hire(job)
    elif job.hired > 0 and not wanted:
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
        job.time_solo = min(time, job.time_solo + job.time_solo // 16) if job.time_solo > 0 else time
    elif helpers == job.hired:
        job.time_helped = min(time, job.time_helped + job.time_helped // 16) if job.time_helped > 0 else time
    if job.hired > 0:
        solo = job.time_solo if job.time_solo > 0 else job.threads * job.time_helped
        if solo > 0:
            lose(job, team, time - solo, TRIAL * solo, now)
        job.trial_in -= 1
        if 0 < job.time_helped and job.trial_in <= (0 if job.time_helped < LONG else -NEXT_TRIAL * job.threads):
            job.solo, job.trial_in, job.time_solo = TRIAL, NEXT_TRIAL * job.threads, 0
    elif job.solo > 0:
        job.solo -= 1


@inlined
def lose(job, team, time, more, now):
    """Helpers have cost this time; if that is too much (SLACK and `more`), do without them for a while."""
    lost = max(team.lost + time, -CREDIT * (job.threads - 1))
    if lost > SLACK + more:
        team.since, team.absence, lost = now, TIMES * lost, 0
    team.lost = lost


@inlined
def begin(job):
    """Before the first pass of a job: nothing is done, and this thread computes."""
    job.hired = job.done[0] = 0
    for p in range(job.threads):
        job.claims[p * CACHE_LINE] = 0
    atomic_add(job.team.active, 0, 1)


@inlined
def end(job):
    """After the last one."""
    dismiss(job)
    atomic_add(job.team.active, 0, -1)


# ---- pieces of a pass -------------------------------------------------------------------------------------------


@inlined
def claim(job, p, s):
    """Whether piece p of pass s is this thread's to do: nobody has begun it."""
    mine = skip(job.claims, p * CACHE_LINE)
    return atomic_load(mine, 0) == s and atomic_replace(mine, 0, s, s + 1)


# ---- what a thread does of a job --------------------------------------------------------------------------------


@kernel
def do_piece(job, s, p, X):
    """Piece p of pass s, batch after batch: call the kernel that the order of passes names."""
    n = s // job.passes_a_batch  # divisions are slow
    one, start = job.passes[s - n * job.passes_a_batch], job.first_row + n * job.batch_size
    call(one.kernel, (job, one.layer, p, start, min(job.batch_size, job.rows - start), X))


@kernel
def take_part(job, p, X):
    """Thread p's piece of each pass, and those that nobody has begun."""
    threads, passes, spins = job.threads, job.pass_count, 0
    if threads == 1:
        for s in range(passes):
            do_piece(job, s, 0, X)
        return
    s = atomic_load(job.done, 0) // threads
    while s < passes and (p == 0 or atomic_load(job.leave, 0) == 0):
        if p == 0:
            hire_or_dismiss(job)
        if p == 0 or claim(job, p, s):
            do_piece(job, s, p, X)
            atomic_add(job.done, 0, 1)
        spins, all_done = 0, threads * (s + 1)
        while atomic_load(job.done, 0) < all_done and (p == 0 or atomic_load(job.leave, 0) == 0):
            if spins >= PATIENCE or atomic_load(job.present, 0) == 0:
                for q in range(1, threads):
                    if claim(job, q, s):
                        do_piece(job, s, q, X)
                        atomic_add(job.done, 0, 1)
            wait(spins)
            spins += 1
        s = max(s + 1, atomic_load(job.done, 0) // threads)
