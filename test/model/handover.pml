/*
 * The handover of a VM between two hosts, as docs/protocol.md tells it, for spin. It explores every
 * interleaving of two migrations (there and back again, or again after a reclaim) with crashes of
 * daemons, losses of memory, and words that are lost, delayed, repeated or reordered at will.
 *
 * Words. A word is a signed fact and follows from a durable record. So the network is the set of
 * words that were ever said: any of them may arrive at any time, any number of times, or never.
 * That is more than TLS permits, and it needs no queue.
 *
 * Post-copy. With POST_COPY a migration may leave pages at the source: the guest runs and lacks them.
 *
 * Disks. A write and its sync are one step, before the word that depends on it; a daemon may crash
 * before and after any step, which covers a write that was under way (it is there or not).
 *
 * Time. There is none: what a timer may do is possible at any moment.
 *
 * Every action makes progress and faults are bounded, so every run ends; in each end all must be
 * settled (`settled`). BUG_... plants a bug; the search must find it.
 */
#ifndef CRASHES
#define CRASHES 3 /* of daemons */
#endif
#ifndef LOSSES
#define LOSSES 1 /* of memory: a host crashes, or a guest dies */
#endif
#ifndef MIGRATIONS
#define MIGRATIONS 2
#endif
#ifndef FENCINGS
#define FENCINGS 1 /* times that a host is off and an operator says so */
#endif

mtype = { NONE, STARTED, ABORTED, PREPARED, SURRENDERED, ACTIVE, GONE, CERTIFIED };
mtype = { NO_GUEST, RUNNING, HELD, INCOMING };
mtype = { NO_SESSION, SENDING, AWAITING_DONE, RECEIVING, SAVING };

/* Durable: what each host has on record of the VM and of each migration. */
mtype vm[2] = NONE;
byte epoch[2];
bool vtpm[2];
mtype source[MIGRATIONS] = NONE;
mtype destination[MIGRATIONS] = NONE;

/* What outlives a daemon, not its host. */
mtype guest[2] = NO_GUEST;
bool lacks[2]; /* post-copy: pages of it are at the other host */

/* What a daemon has in its memory alone. */
bool up[2] = true;
bool off[2]; /* no power: the operator sees it */
mtype session[2] = NO_SESSION;

/* What was ever said, by migration. */
bool final[MIGRATIONS], done[MIGRATIONS], token[MIGRATIONS], running[MIGRATIONS], activated[MIGRATIONS],
     deleted[MIGRATIONS], source_abort[MIGRATIONS], destination_abort[MIGRATIONS];

/* For the properties. */
byte from[MIGRATIONS];      /* the source of each migration */
byte begun;                 /* migrations so far */
byte last_given = 1;        /* the highest epoch that was given to anyone, to run or to promise */
bool lost_at[2];            /* whose memory was lost */
bool excused;               /* that of the host that owned the VM, or of both */
byte crashes, losses, fencings;

/* A record alone starts nothing: it takes the guest's memory. */
#define may_start(h) (vm[h] == ACTIVE && guest[h] != NO_GUEST)
#define one_life (!(guest[0] == RUNNING && guest[1] == RUNNING) && !(may_start(0) && may_start(1)))
#define whole(h) (guest[h] != NO_GUEST && (!lacks[h] || guest[1 - h] != NO_GUEST))
#define no_loss (excused || whole(0) || whole(1))
#define one_vtpm (vtpm[0] || vtpm[1])
#define together(h) (guest[h] != RUNNING || (vtpm[h] && may_start(h)))
#define never_clone (epoch[0] != epoch[1] || vm[0] == NONE || vm[1] == NONE)

#define is_here(h) (guest[h] != NO_GUEST || vtpm[h])

inline destroy(h) {
    guest[h] = NO_GUEST; lacks[h] = false; vtpm[h] = false
}

inline check() {
    assert(one_life);
    assert(no_loss);
    assert(one_vtpm);
    assert(together(0) && together(1));
    assert(never_clone);
}

#define settled(m) ((source[m] == GONE && destination[m] == CERTIFIED) || \
    (source[m] == ABORTED && (destination[m] == ABORTED || destination[m] == NONE)))

/* A session is that of the last migration. */
#define in_session(h, m, s) (session[h] == s && m == begun - 1)
#define is_source(h, m) (up[h] && m < begun && from[m] == h)
#define is_destination(h, m) (up[h] && m < begun && from[m] != h)

/* The host h as the source of migration m. */
proctype as_source(byte h; byte m) {
end:
    do
    /* The operator asks; the destination admits it and makes room. */
    :: atomic { up[h] && m == begun && vm[h] == ACTIVE && guest[h] == RUNNING &&
                !lacks[h] && session[h] == NO_SESSION && up[1 - h] && session[1 - h] == NO_SESSION &&
                guest[1 - h] == NO_GUEST && (vm[1 - h] == NONE || vm[1 - h] == GONE) ->
        begun++; from[m] = h; source[m] = STARTED; session[h] = SENDING;
        session[1 - h] = RECEIVING; guest[1 - h] = INCOMING; check() }
    /* Stop-and-copy. */
    :: atomic { is_source(h, m) && in_session(h, m, SENDING) && guest[h] == RUNNING ->
        guest[h] = HELD; session[h] = AWAITING_DONE; final[m] = true; check() }
    /* Whatever goes wrong before the surrender; and what a daemon finds unfinished. */
    :: atomic { is_source(h, m) && source[m] == STARTED ->
        source[m] = ABORTED; session[h] = NO_SESSION; check() }
    :: atomic { is_source(h, m) && source[m] == ABORTED && !source_abort[m] ->
        source_abort[m] = true }
    /* With the receipt: surrender, and only then the token. */
    :: atomic { is_source(h, m) && in_session(h, m, AWAITING_DONE) && done[m] ->
        source[m] = SURRENDERED; vm[h] = SURRENDERED; session[h] = NO_SESSION;
        last_given = epoch[h] + 1; check() }
    :: atomic { is_source(h, m) && source[m] == SURRENDERED && !token[m] -> token[m] = true }
#ifdef BUG_TOKEN_BEFORE_SYNC
    :: atomic { is_source(h, m) && in_session(h, m, AWAITING_DONE) && done[m] && !token[m] ->
        token[m] = true }
#endif
    /* It runs there: destroy what is left, then write it, then say it. */
    :: atomic { is_source(h, m) && source[m] == SURRENDERED && activated[m] && is_here(h) ->
        assert(destination[m] == ACTIVE && !lacks[1 - h]); destroy(h); check() }
    :: atomic { is_source(h, m) && source[m] == SURRENDERED && activated[m] && !is_here(h) ->
        source[m] = GONE; vm[h] = GONE; check() }
    :: atomic { is_source(h, m) && source[m] == GONE && !deleted[m] -> deleted[m] = true }
#ifdef BUG_DELETE_BEFORE_ACTIVATED
    :: atomic { is_source(h, m) && source[m] == SURRENDERED && is_here(h) ->
        destroy(h); check() }
#endif
    /*
     * It lost what it held, or an operator states that it is off for good: the VM is ours again,
     * with an epoch that nobody was promised.
     */
    :: atomic { is_source(h, m) && source[m] == SURRENDERED &&
#ifdef BUG_RECLAIM_WITHOUT_PROOF
                true ->
#else
                /* Once it has heard that it runs there it never is. */
                (destination_abort[m] || (off[1 - h] && guest[h] == HELD && !running[m])) ->
#endif
        source[m] = ABORTED; vm[h] = ACTIVE;
#ifdef BUG_EPOCH_REUSED
        epoch[h] = epoch[h] + 1;
#else
        epoch[h] = epoch[h] + 2;
#endif
        assert(epoch[h] > last_given); last_given = epoch[h]; check() }
    /*
     * It runs there though we never surrendered: an operator stated that we were off, and our memory
     * is gone. So we surrender late, and what is left here is destroyed in order.
     */
    :: atomic { is_source(h, m) && source[m] == ABORTED && activated[m] && vm[h] == ACTIVE &&
                guest[h] == NO_GUEST && epoch[h] < epoch[1 - h] && m == begun - 1 ->
        source[m] = SURRENDERED; vm[h] = SURRENDERED; check() }
#ifdef BUG_RESUME_ON_LOST_ACTIVATED
    :: atomic { is_source(h, m) && source[m] == SURRENDERED && guest[h] == HELD ->
        guest[h] = RUNNING; check() }
#endif
    od
}

/* The host h as the destination of migration m. */
proctype as_destination(byte h; byte m) {
end:
    do
    /* Everything came: the vTPM is saved, PREPARED is written, and only then the receipt leaves. */
    :: atomic { is_destination(h, m) && in_session(h, m, RECEIVING) && final[m] &&
                guest[h] == INCOMING -> vtpm[h] = true; session[h] = SAVING; check() }
    :: atomic { is_destination(h, m) && in_session(h, m, SAVING) && guest[h] == INCOMING ->
        destination[m] = PREPARED; vm[h] = PREPARED; epoch[h] = epoch[from[m]] + 1;
#ifdef POST_COPY
        if
        :: lacks[h] = true
        :: skip
        fi;
#endif
        session[h] = NO_SESSION; check() }
    :: atomic { is_destination(h, m) && destination[m] == PREPARED && !done[m] -> done[m] = true }
#ifdef BUG_ACK_BEFORE_SYNC
    :: atomic { is_destination(h, m) && in_session(h, m, SAVING) && !done[m] -> done[m] = true }
#endif
    /* Whatever goes wrong before that. */
    :: atomic { is_destination(h, m) && (in_session(h, m, RECEIVING) || in_session(h, m, SAVING)) ->
        destroy(h); destination[m] = ABORTED; session[h] = NO_SESSION; check() }
    /* The token, or an operator's statement that the source is off: the commit point. */
    :: atomic { is_destination(h, m) && destination[m] == PREPARED && guest[h] == INCOMING &&
#ifdef BUG_ACTIVATION_ON_TIMEOUT
                true ->
#else
                /* Without what is at a host that is off it can never be whole. */
                (token[m] || (off[1 - h] && !lacks[h])) ->
        if
        :: token[m] -> assert(epoch[h] == last_given)
        :: else -> assert(epoch[h] >= last_given); last_given = epoch[h]
        fi;
#endif
        destination[m] = ACTIVE; vm[h] = ACTIVE; check() }
    /* It runs, and what it lacks is kept for it until it says that it has all. */
    :: atomic { is_destination(h, m) && destination[m] == ACTIVE && guest[h] == RUNNING &&
                lacks[h] && !running[m] -> running[m] = true }
    :: atomic { is_destination(h, m) && destination[m] == ACTIVE && guest[h] == RUNNING &&
                lacks[h] && running[m] && guest[from[m]] == HELD && up[from[m]] ->
        lacks[h] = false; check() }
    /* What it lacks is lost with the memory of the source: an operator deletes it. */
    :: atomic { is_destination(h, m) && destination[m] == ACTIVE && lacks[h] &&
                guest[from[m]] == NO_GUEST -> assert(excused); guest[h] = NO_GUEST; lacks[h] = false }
    /* It runs; or it is lost, as any VM whose host fails it. */
    :: atomic { is_destination(h, m) && destination[m] == ACTIVE && guest[h] != INCOMING &&
#ifndef BUG_WHOLE_TOO_EARLY
                !lacks[h] &&
#endif
                !activated[m] -> activated[m] = true }
    :: atomic { is_destination(h, m) && destination[m] == ACTIVE && deleted[m] ->
        destination[m] = CERTIFIED }
    /* An operator gave it back to the source while we were off, and our memory is gone. */
    :: atomic { is_destination(h, m) && destination[m] == ACTIVE && source_abort[m] &&
                guest[h] == NO_GUEST && epoch[h] < epoch[1 - h] && m == begun - 1 ->
        vtpm[h] = false; destination[m] = ABORTED; vm[h] = NONE; check() }
    /* The source did not surrender, or nothing is left to run: destroyed, then written, then said. */
    :: atomic { is_destination(h, m) && destination[m] == PREPARED && is_here(h) &&
#ifdef BUG_ABORT_OF_PREPARED_ON_TIMEOUT
                true ->
#else
                (source_abort[m] || guest[h] == NO_GUEST || (off[1 - h] && lacks[h])) ->
#endif
        destroy(h); check() }
    :: atomic { is_destination(h, m) && destination[m] == PREPARED && !is_here(h) ->
        destination[m] = ABORTED; vm[h] = NONE; check() }
    :: atomic { is_destination(h, m) && destination[m] == ABORTED && !destination_abort[m] ->
        destination_abort[m] = true }
    od
}

/* What a daemon owes whenever it runs, and so when it starts again. */
proctype recovery(byte h) {
end:
    do
    /* A guest that is ours, and that a migration left standing, runs. */
    :: atomic { up[h] && session[h] == NO_SESSION &&
#ifdef BUG_RECOVERY_RESUMES_SURRENDERED
                (vm[h] == ACTIVE || vm[h] == SURRENDERED) &&
#else
                vm[h] == ACTIVE &&
#endif
                (guest[h] == HELD || guest[h] == INCOMING) -> guest[h] = RUNNING; check() }
    /* What no record knows is cleared away. */
    :: atomic { up[h] && session[h] == NO_SESSION && (vm[h] == NONE || vm[h] == GONE) &&
                is_here(h) -> destroy(h); check() }
    od
}

inline daemon_dies(h) {
    up[h] = false; session[h] = NO_SESSION
}

/* The guest of h is gone: it is the VM that is lost if h owned it, or if nobody is left with it. */
inline memory_lost(h) {
    if
    :: guest[h] != NO_GUEST -> losses++; lost_at[h] = true
    :: else
    fi;
    guest[h] = NO_GUEST; lacks[h] = false;
    if
    :: vm[h] == ACTIVE || (lost_at[0] && lost_at[1]) || lacks[1 - h] -> excused = true
    :: else
    fi;
    check()
}

proctype faults(byte h) {
end:
    do
    :: atomic { up[h] && crashes < CRASHES -> crashes++; daemon_dies(h) }
    :: atomic { !up[h] -> up[h] = true; off[h] = false }
    :: atomic { losses < LOSSES && guest[h] != NO_GUEST -> memory_lost(h) }
    :: atomic { losses < LOSSES && up[h] && guest[h] != NO_GUEST -> daemon_dies(h); memory_lost(h) }
    :: atomic { fencings < FENCINGS && !off[h] ->
        fencings++; off[h] = true; daemon_dies(h); memory_lost(h) }
    od
}

init {
    byte m;
    atomic {
        vm[0] = ACTIVE; epoch[0] = 1; vtpm[0] = true; guest[0] = RUNNING;
        for (m : 0 .. MIGRATIONS - 1) {
            run as_source(0, m); run as_source(1, m);
            run as_destination(0, m); run as_destination(1, m)
        }
        run recovery(0); run recovery(1); run faults(0); run faults(1)
    }
    /* Nothing can happen any more: everything is settled, and it runs, in one place. */
    timeout ->
    for (m : 0 .. MIGRATIONS - 1) {
        assert(m >= begun || settled(m))
    }
    assert(excused || (guest[0] == RUNNING) + (guest[1] == RUNNING) == 1);
    assert(excused || vtpm[0] + vtpm[1] == 1);
    assert(guest[0] != HELD && guest[0] != INCOMING && guest[1] != HELD && guest[1] != INCOMING)
}
