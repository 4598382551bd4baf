//! The bytes that a connection moves in one turn.

use super::*;

/// The most that a turn writes: the limit of a turn, and one write beyond it.
const MAX_TURN: usize = 2 * WriteQueue::MAX_WRITE;

#[test]
fn a_large_response_is_written_in_several_turns() {
    let medium = GET.replace("/ ", "/medium ").repeat(40).leak();
    for (request, blocks) in [
        (head("GET /large", ""), EVENT_LOOP),
        (head("GET /large", ""), BLOCKING),
        (head("GET /huge", ""), EVENT_LOOP),
        (head("GET /endless", ""), EVENT_LOOP),
        (medium, EVENT_LOOP),
    ] {
        let mut rig = Rig::new(blocks, |_| {}, [Text(request)]);
        let turns: Vec<_> = (0..4).map(|_| rig.turn()).collect();
        assert!(turns.iter().all(|&(written, _)| (1..=MAX_TURN).contains(&written)), "{request}: {turns:?}");
        assert!(turns.iter().all(|&(_, is_woken)| is_woken), "{request}: {turns:?}");
    }
}

#[test]
fn a_response_below_the_limit_of_a_turn_is_written_in_one() {
    for request in [head("GET /medium", ""), GET] {
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, []);
        for _ in 0..10 {
            rig.script().reads.extend([Text(request), Nothing]);
            let (written, is_woken) = rig.turn();
            assert!(written > 1000 && !is_woken, "{request}: {written} bytes, woken: {is_woken}");
        }
    }
}

#[test]
fn a_body_that_arrives_without_a_pause_is_read_in_several_turns() {
    const READS: usize = 64;
    // The limit of a turn is 8 reads.
    const MAX_READS: usize = 9;
    let body = format!("Content-Length: {}\r\n", READS << 16).leak();
    let refused = head("GET /", "Transfer-Encoding: x\r\n");
    for (line, blocks) in [
        (head("POST /count", body), EVENT_LOOP),
        (head("POST /count", body), BLOCKING),
        // The lingering close.
        (refused, EVENT_LOOP),
    ] {
        let reads = [Text(line), Nothing].into_iter().chain([bulk(); READS]);
        let mut rig = Rig::new(blocks, |_| {}, reads);
        let mut left = READS;
        while left > MAX_READS {
            let (_, is_woken) = rig.turn();
            let now = rig.script().reads.len().min(READS);
            assert!(left - now <= MAX_READS, "{line}: {left} reads were left, and {now} after one turn");
            assert!(is_woken || now >= READS - 1, "{line}: the connection waits, and {now} reads are left");
            left = now;
        }
    }
}
