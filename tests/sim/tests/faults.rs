//! Every fault that can be built in is found, by the rule that is meant to find it, on each kind of backend.

use gearshift_sim::{Fault, Flavour, Simulation};

/// A fault has to be found within this many seeds.
const SEEDS: u64 = 4_000;

/// The first violation that `fault` leads to, and the number of runs in which the fault was played until then.
fn find(fault: Fault, flavour: Flavour) -> Option<(u64, String)> {
    let mut played = 0;
    for seed in 0..SEEDS {
        let outcome = Simulation::new(seed).flavour(flavour).fault(fault).run();
        played += u64::from(outcome.faulted);
        if let Some(violation) = outcome.violation {
            assert!(outcome.faulted, "seed {seed} breaks a rule without any fault: {violation}");
            assert!(!outcome.trace.is_empty());
            return Some((played, violation));
        }
    }
    None
}

/// The words of which a violation has to contain one, for each fault.
const TABLE: &[(Fault, &[&str])] = &[
    (
        Fault::DropSentByte,
        &["is sent", "was sent", "bytes that are not its own", "is cut", "is not answered", "by the server"],
    ),
    (
        Fault::RepeatSentByte,
        &["is sent", "was sent", "bytes that are not its own", "is cut", "by the server"],
    ),
    (Fault::DropReadByte, &[]),
    (Fault::RepeatReadByte, &[]),
    (Fault::ChangeReadByte, &[]),
    (Fault::LoseReadWake, &["is asleep", "waits for"]),
    (Fault::LoseWriteWake, &["is asleep", "waits for"]),
    (Fault::IgnoreDeadlines, &["waits for", "nothing will happen", "does not end"]),
    (Fault::Spin, &["in a circle"]),
    (
        Fault::ForgetConnection,
        &["waits for", "does not read", "is asleep", "outlives", "nothing will happen"],
    ),
    (
        Fault::MissStop,
        &[
            "outlives a graceful stop",
            "is not answered",
            "closes without a reason",
            "is the last",
            "in flight",
        ],
    ),
    (Fault::MissForce, &["outlives a forced stop", "reported cut"]),
    (Fault::CallCutBodyWhole, &["was read as"]),
    (Fault::SwapResponses, &["comes where"]),
    (Fault::DropTrailers, &["has the trailer"]),
    (Fault::KeepTimer, &["timers are left"]),
    (Fault::KeepTask, &["never ends"]),
    (Fault::CloseEarly, &["is not answered", "is cut", "before its first request was due"]),
    (Fault::ForgetAtStop, &["is not answered", "is cut"]),
    (Fault::ForgetRoom, &["of at most"]),
    (Fault::CloseFreshAtStop, &["before its first request was due"]),
    (Fault::DropQueueAtStop, &["is not answered"]),
    (Fault::JudgeFirst, &["is not answered", "is cut", "by the server", "was read as", "was due"]),
    (Fault::ForgetUpgraded, &["of at most"]),
    (Fault::DeafToStop, &["outlives a graceful stop, waiting for Upgraded"]),
    (Fault::KeepUpgraded, &["outlives a forced stop, waiting for Upgraded", "are counted"]),
    (Fault::RenewDrain, &["for the rest of a body"]),
    (Fault::OverlookEnd, &["waits for HalfClosed"]),
    (Fault::LoseGone, &["a task still waits", "waits for Body"]),
    (Fault::KeepFirstWaker, &["a task still waits", "waits for Body"]),
    (Fault::LoseDriverWake, &["does not read ahead", "does not see that its client is gone"]),
    (Fault::LoseCancel, &["still waits for the token"]),
    (Fault::DenyBlocking, &["on a thread before its body has come"]),
    (Fault::ParkHandling, &["overlap on thread"]),
    (Fault::ParkHeld, &["does not hold the thread", "which a response of", "that holds thread"]),
    (
        Fault::ForgetHold,
        &["does not hold the thread", "that holds thread", "before its last piece is written"],
    ),
    (Fault::HoldThread, &["holds a thread"]),
    (Fault::HideEnd, &["begins for a client that left"]),
];

/// Faults of blocking backends.
const NEEDS_THREADS: &[Fault] =
    &[Fault::DenyBlocking, Fault::ParkHandling, Fault::ParkHeld, Fault::HoldThread, Fault::HideEnd];

#[test]
fn a_difference_between_the_flavours_is_found() {
    let differs = |seed| {
        let simulation = Simulation::new(seed).without_races();
        let faulty = simulation.clone().fault(Fault::CallCutBodyWhole).flavour(Flavour::Blocking).run();
        simulation.run().responses != faulty.responses
    };
    assert!((0..20).any(differs));
}

#[test]
fn every_fault_is_found() {
    let mut missed = Vec::new();
    assert_eq!(TABLE.len(), Fault::ALL.len());
    for (fault, words) in TABLE {
        for flavour in Flavour::ALL {
            if flavour == Flavour::EventLoop && NEEDS_THREADS.contains(fault) {
                continue;
            }
            match find(*fault, flavour) {
                Some((_, said)) if words.is_empty() || words.iter().any(|word| said.contains(word)) => {}
                other => missed.push(format!("{fault:?} on {flavour:?}: {other:?}")),
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Faults that are played in most runs have to be found in nearly every one of them.
#[test]
fn faults_are_found_at_once() {
    for (fault, max) in [
        (Fault::SwapResponses, 1),
        (Fault::KeepTimer, 1),
        (Fault::KeepTask, 1),
        (Fault::Spin, 3),
        (Fault::DropSentByte, 10),
        (Fault::RepeatSentByte, 10),
        (Fault::LoseReadWake, 8),
    ] {
        let (played, said) = find(fault, Flavour::EventLoop).expect("it is found");
        assert!(played <= max, "{fault:?} was played {played} times before: {said}");
    }
}
