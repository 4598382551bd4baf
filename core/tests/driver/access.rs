//! The access log: times, order, and responses of which nothing was sent.

use super::*;

/// Creates a connection with an access log. The time is 1994-11-06 08:49:37.
fn logged(blocks: bool, reads: impl IntoIterator<Item = Read>) -> Rig {
    keep_lines();
    let mut rig = Rig::new(blocks, |config| config.access_log = true, reads);
    rig.clock.advance(seconds(784_111_777));
    rig.driving = drive(Scripted(rig.script.clone(), rig.clock.clone()), None, &rig.service);
    rig
}

/// Takes the lines about requests with this target.
fn lines_about(target: &str) -> Vec<String> {
    let request = format!(" {target} ");
    LINES.lock().unwrap().extract_if(.., |line| line.contains(&request)).collect()
}

#[test]
fn a_request_lasts_from_the_first_byte_of_its_head_to_the_last_byte_of_its_response() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        let mut rig = logged(blocks, [Text("GET /lasts HTTP/1.1\r\n"), Nothing]);
        assert!(!rig.poll());
        rig.clock.advance(seconds(3));
        rig.script().reads.extend([Text("Host: a\r\n\r\n"), Nothing]);
        rig.script().room = 100;
        assert!(!rig.poll());
        rig.clock.advance(seconds(4));
        assert_eq!(lines_about("/lasts"), Vec::<String>::new(), "the response is not sent");
        rig.script().room = usize::MAX;
        assert!(!rig.poll());
        let line = "unix - - [06/Nov/1994:08:49:37 +0000] \"GET /lasts HTTP/1.1\" 200 1000 7.000000";
        assert_eq!(lines_about("/lasts"), [line]);
        // The time without a request is not that of the next one.
        rig.clock.advance(seconds(2));
        rig.script().reads.extend([Text(head("GET /lasts", ""))]);
        assert!(!rig.poll());
        let line = "unix - - [06/Nov/1994:08:49:46 +0000] \"GET /lasts HTTP/1.1\" 200 1000 0.000000";
        assert_eq!(lines_about("/lasts"), [line]);
    }
}

#[test]
fn pipelined_responses_are_logged_as_they_are_sent() {
    let mut rig = logged(EVENT_LOOP, [all(&[head("GET /pipelined", ""); 3])]);
    rig.script().room = 1_500;
    assert!(!rig.poll());
    assert_eq!(lines_about("/pipelined").len(), 1);
    let written = rig.written();
    let (_, begun) = written.split_once(&"x".repeat(1000)).unwrap();
    let (_, body) = begun.split_once("\r\n\r\n").unwrap();
    rig.clock.advance(seconds(1));
    drop(rig.driving);
    let lines = lines_about("/pipelined");
    let begin = "unix - - [06/Nov/1994:08:49:37 +0000] \"GET /pipelined HTTP/1.1\"";
    assert_eq!(lines, [format!("{begin} 200 {} 1.000000 cut", body.len()), format!("{begin} - 0 1.000000")]);
}

#[test]
fn a_request_that_is_not_answered_is_logged_when_the_connection_ends() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        // A handler, the wait for a small body, and a stream of which only the head was sent.
        for (target, fields, status) in
            [("/never", "", "-"), ("/unread", "Content-Length: 3\r\n", "-"), ("/stream", "", "200")]
        {
            let mut rig = logged(blocks, [Text(head(&format!("GET {target}?{blocks}"), fields)), Nothing]);
            assert!(!rig.poll());
            rig.clock.advance(seconds(1));
            let target = format!("{target}?{blocks}");
            assert_eq!(lines_about(&target), Vec::<String>::new());
            rig.service.shutdown().force();
            assert!(rig.poll());
            let cut = if status == "-" { "" } else { " cut" };
            let request = format!("\"GET {target} HTTP/1.1\"");
            let line = format!("unix - - [06/Nov/1994:08:49:37 +0000] {request} {status} 0 1.000000{cut}");
            assert_eq!(lines_about(&target), [line]);
        }
    }
}

#[test]
fn a_response_of_which_nothing_was_sent_has_no_status_in_the_log() {
    let mut rig = logged(EVENT_LOOP, [Text(head("GET /unsent", ""))]);
    rig.script().room = 0;
    assert!(!rig.poll());
    drop(rig.driving);
    let line = "unix - - [06/Nov/1994:08:49:37 +0000] \"GET /unsent HTTP/1.1\" - 0 0.000000";
    assert_eq!(lines_about("/unsent"), [line]);
}
