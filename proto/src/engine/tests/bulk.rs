//! What flows beside a call is limited, and nothing is when there is none.

use super::*;

/// Whether each new grant of a node to the other one is a limit.
fn limits(mesh: &mut Mesh, n: usize) -> Vec<bool> {
    let other = mesh.id(1 - n);
    let grants = std::mem::take(&mut mesh.nodes[n].grants);
    assert!(grants.iter().all(|(peer, _)| *peer == other), "{grants:?}");
    grants.into_iter().map(|(_, bytes)| bytes.is_some()).collect()
}

/// Sends a frame every 20 ms. Whatever is granted meanwhile is used up at once.
fn talk(mesh: &mut Mesh, stream: StreamId, millis: u64) {
    for _ in 0..millis / 20 {
        mesh.send(0, stream, b"audio").unwrap();
        mesh.run_for(super::millis(20));
        use_up(mesh);
    }
}

fn use_up(mesh: &mut Mesh) {
    let peer = mesh.id(1);
    mesh.nodes[0].net(NetEvent::CreditUsed { peer });
}

#[test]
fn only_the_end_that_sends_audio_limits_what_else_it_sends_from_the_first_frame_to_the_end() {
    for closes in [0, 1] {
        let mut mesh = Mesh::pair(config(), config());
        let (here, there) = mesh.call(StreamOptions::default());
        assert_eq!(limits(&mut mesh, 0), [false; 0]);
        for _ in 0..100 {
            mesh.send(0, here, b"audio").unwrap();
            mesh.run_for(millis(20));
        }
        assert_eq!((limits(&mut mesh, 0), limits(&mut mesh, 1)), (vec![true], vec![]));
        mesh.close(closes, if closes == 0 { here } else { there }).unwrap();
        assert_eq!((limits(&mut mesh, 0), limits(&mut mesh, 1)), (vec![false], vec![]));
    }
}

#[test]
fn a_call_that_is_silent_for_two_seconds_limits_nothing_until_it_speaks_again() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    mesh.send(0, here, b"audio").unwrap();
    assert_eq!(limits(&mut mesh, 0), [true]);
    mesh.run_for(millis(2000));
    assert_eq!(limits(&mut mesh, 0), [false; 0], "nobody wants to write");
    use_up(&mut mesh);
    assert_eq!(limits(&mut mesh, 0), [false]);
    use_up(&mut mesh);
    assert_eq!(limits(&mut mesh, 0), [false; 0]);
    mesh.send(0, here, b"audio").unwrap();
    assert_eq!(limits(&mut mesh, 0), [true]);
}

#[test]
fn data_that_waits_beside_a_call_is_granted_more_the_longer_the_path_stays_free() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    let mut granted = Vec::new();
    for _ in 0..10 {
        talk(&mut mesh, here, 100);
        let grants = std::mem::take(&mut mesh.nodes[0].grants);
        granted.push(grants.iter().map(|(_, bytes)| u64::from(bytes.unwrap())).sum::<u64>());
    }
    assert!(granted[9] > 10 * granted[0], "{granted:?}");
    // Nobody writes any more: no timer, no grant but a smaller one.
    let last = talk_alone(&mut mesh, here);
    assert!(last.len() < 15 && last.is_sorted_by(|a, b| a > b), "{last:?}");
}

/// Sends audio alone for a minute, and returns the grants.
fn talk_alone(mesh: &mut Mesh, stream: StreamId) -> Vec<u32> {
    mesh.run_for(millis(200));
    mesh.nodes[0].grants.clear();
    for _ in 0..3000 {
        mesh.send(0, stream, b"audio").unwrap();
        mesh.run_for(millis(20));
    }
    std::mem::take(&mut mesh.nodes[0].grants).into_iter().filter_map(|(_, bytes)| bytes).collect()
}

#[test]
fn two_calls_with_a_peer_share_the_limit_and_the_last_one_ends_it() {
    let mut mesh = Mesh::pair(config(), config());
    let (one, _) = mesh.call(StreamOptions::default());
    let (other, _) = mesh.call(StreamOptions::default());
    for stream in [one, other] {
        mesh.send(0, stream, b"audio").unwrap();
    }
    assert_eq!(limits(&mut mesh, 0), [true]);
    mesh.close(0, one).unwrap();
    assert_eq!(limits(&mut mesh, 0), [false; 0]);
    mesh.close(0, other).unwrap();
    assert_eq!(limits(&mut mesh, 0), [false]);
}

#[test]
fn a_call_that_outlives_its_connection_limits_the_next_one() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    talk(&mut mesh, here, 100);
    limits(&mut mesh, 0);
    mesh.cut_link(0);
    talk(&mut mesh, here, 3000);
    assert_eq!(mesh.nodes[0].stats().streams_resumed, 1);
    let limits = limits(&mut mesh, 0);
    assert!(!limits[0], "the old one ends: {limits:?}");
    assert!(limits.len() > 1 && limits[1..].iter().all(|is_limit| *is_limit), "{limits:?}");
}

#[test]
fn a_limit_ends_with_the_connection_and_with_the_node() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    talk(&mut mesh, here, 100);
    limits(&mut mesh, 0);
    mesh.run_for(secs(3));
    limits(&mut mesh, 0);
    mesh.cut_link(0);
    mesh.run_for(secs(5));
    use_up(&mut mesh);
    assert_eq!(limits(&mut mesh, 0), [false], "the next connection has none");

    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    mesh.send(0, here, b"audio").unwrap();
    mesh.nodes[0].command(|id| Command::Shutdown { id });
    assert_eq!(limits(&mut mesh, 0), [true, false]);
}
