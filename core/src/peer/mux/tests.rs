//! Two sides of one stream.

use super::*;
use proptest::prelude::*;

fn version() -> Vec<u8> {
    hex::decode("92cdffffc40481a17601").unwrap()
}

fn drain(mux: &mut Mux) -> Vec<u8> {
    std::iter::from_fn(|| mux.poll_transmit())
        .flat_map(|t| t.packet)
        .collect()
}

fn events(mux: &mut Mux) -> Vec<Event> {
    std::iter::from_fn(|| mux.poll_event()).collect()
}

fn pair() -> (Mux, Mux) {
    let (mut alice, mut bob) = (Mux::new(TlsRole::Client), Mux::new(TlsRole::Server));
    carry(&mut alice, &mut bob);
    assert_eq!(events(&mut alice), [Event::Version(1)]);
    assert_eq!(events(&mut bob), [Event::Version(1)]);
    (alice, bob)
}

fn carry(alice: &mut Mux, bob: &mut Mux) {
    loop {
        let (a, b) = (drain(alice), drain(bob));
        if a.is_empty() && b.is_empty() {
            return;
        }
        bob.handle_bytes(&a).unwrap();
        alice.handle_bytes(&b).unwrap();
    }
}

#[test]
fn packets_are_those_of_a_daemon() {
    let mut bob = Mux::new(TlsRole::Server);
    assert_eq!(drain(&mut bob), version());
    bob.handle_bytes(&hex::decode("9200c40993a3736970cdd10700").unwrap())
        .unwrap();
    let Some(Event::Requested(id, name)) = bob.poll_event() else {
        panic!("no request");
    };
    assert_eq!((id.number(), name.as_str()), (0xd107, "sip"));
    bob.accept(id, "sip").unwrap();
    assert_eq!(hex::encode(drain(&mut bob)), "9200c40993a3736970cdd10701");
    bob.handle_bytes(&hex::decode("92cdd107c400").unwrap())
        .unwrap();
    assert_eq!(events(&mut bob), [Event::Ended(id)]);
    // Not answered.
    assert_eq!(drain(&mut bob), b"");
    bob.handle_bytes(&hex::decode("92cdffffc40481a170c3").unwrap())
        .unwrap();
    assert_eq!(hex::encode(drain(&mut bob)), "92cdffffc40481a170c2");
}

#[test]
fn alice_and_bob_open_channels_both_ways_at_once() {
    let (mut alice, mut bob) = pair();
    let a = alice.request("git://x").unwrap();
    let b = bob.request("git://y").unwrap();
    assert_eq!((a.number(), b.number()), (1, 0x8000));
    carry(&mut alice, &mut bob);
    let Event::Requested(b_at_alice, _) = alice.poll_event().unwrap() else {
        panic!()
    };
    let Event::Requested(a_at_bob, _) = bob.poll_event().unwrap() else {
        panic!()
    };
    assert_eq!(alice.write(a, b"early"), Err(MuxError::NotOpen));
    // The acceptor may speak and end in the same flight.
    bob.accept(a_at_bob, "git://x").unwrap();
    bob.write(a_at_bob, b"hello").unwrap();
    bob.end(a_at_bob);
    alice.decline(b_at_alice, "git://y").unwrap();
    carry(&mut alice, &mut bob);
    assert_eq!(
        events(&mut alice),
        [
            Event::Accepted(a),
            Event::Data(a, b"hello".to_vec()),
            Event::Ended(a)
        ]
    );
    assert_eq!(events(&mut bob), [Event::Declined(b)]);
    assert_eq!((alice.channel_count(), bob.channel_count()), (0, 0));
    // The number is free again, and the old id names nothing.
    assert_eq!(alice.write(a, b"late"), Err(MuxError::NotOpen));
}

#[test]
fn control_goes_ahead_of_bulk_and_channels_take_turns() {
    let (mut alice, mut bob) = pair();
    let (x, y) = (alice.request("x").unwrap(), alice.request("y").unwrap());
    carry(&mut alice, &mut bob);
    for event in events(&mut bob) {
        let Event::Requested(id, name) = event else {
            panic!()
        };
        bob.accept(id, &name).unwrap();
    }
    carry(&mut alice, &mut bob);
    assert_eq!(alice.write(x, &vec![1; 1 << 20]).unwrap(), WRITE_BUDGET);
    assert_eq!(alice.room(x), 0);
    alice.write(y, &[2; 10]).unwrap();
    alice
        .handle_bytes(&hex::decode("92cdffffc40481a170c3").unwrap())
        .unwrap();
    let first = alice.poll_transmit().unwrap().packet;
    assert_eq!(hex::encode(first), "92cdffffc40481a170c2");
    let order: Vec<u8> = std::iter::from_fn(|| alice.poll_transmit())
        .map(|t| t.packet[1])
        .collect();
    assert_eq!(order, [1, 2, 1, 1, 1, 1]);
}

#[test]
fn an_unanswered_beacon_is_death_and_an_answered_one_is_not() {
    let (mut alice, mut bob) = pair();
    let at = Duration::from_secs;
    alice.beacon(at(10));
    assert_eq!(alice.poll_timeout(), Some(at(13)));
    carry(&mut alice, &mut bob);
    alice.handle_timeout(at(13));
    assert_eq!(alice.poll_event(), None);
    alice.beacon(at(20));
    drain(&mut alice);
    alice.handle_timeout(at(23));
    assert_eq!(alice.poll_event(), Some(Event::Dead));
    // An answer may stand behind megabytes: part of any packet shows that the peer is there.
    alice.beacon(at(30));
    alice.handle_bytes(&[0x92]).unwrap();
    assert_eq!(alice.poll_timeout(), None);
    alice.handle_timeout(at(33));
    assert_eq!(alice.poll_event(), None);
    // What came before says nothing.
    alice.beacon(at(40));
    alice.handle_bytes(&[]).unwrap();
    alice.handle_timeout(at(43));
    assert_eq!(alice.poll_event(), Some(Event::Dead));
}

/// All that a version says is whether a peer knows beacons.
#[test]
fn a_later_version_is_spoken_to_like_ours() {
    let at = Duration::from_secs;
    let mut alice = Mux::new(TlsRole::Client);
    assert_eq!(drain(&mut alice), version());
    // Nothing is known of the peer yet.
    alice.beacon(at(1));
    assert_eq!((drain(&mut alice), alice.poll_timeout()), (vec![], None));
    let later = msgpack::map([("v", Value::from(99)), ("new", Value::from("thing"))]);
    alice
        .handle_bytes(&packet(PROTOCOL, &msgpack::encode(&later)))
        .unwrap();
    assert_eq!(events(&mut alice), [Event::Version(99)]);
    alice.beacon(at(2));
    assert_eq!(hex::encode(drain(&mut alice)), "92cdffffc40481a170c3");
    assert_eq!(alice.poll_timeout(), Some(at(5)));
    let mut bob = Mux::new(TlsRole::Server);
    alice.request("x").unwrap();
    carry(&mut alice, &mut bob);
    assert!(matches!(bob.poll_event(), Some(Event::Requested(_, name)) if name == "x"));
}

#[test]
fn numbers_in_use_and_reserved_ones_are_declined() {
    let (mut alice, _) = pair();
    let ask = |n: u16| {
        packet(
            0,
            &msgpack::encode(&Value::Array(vec!["sip".into(), n.into(), 0.into()])),
        )
    };
    for number in [0, 0xffff] {
        alice.handle_bytes(&ask(number)).unwrap();
        assert_eq!(alice.poll_event(), None);
        assert!(drain(&mut alice).ends_with(&[2]));
    }
    alice.handle_bytes(&ask(7)).unwrap();
    alice.handle_bytes(&ask(7)).unwrap();
    assert_eq!(events(&mut alice).len(), 1);
    assert!(drain(&mut alice).ends_with(&[2]));
}

#[test]
fn floods_end_in_a_bounded_refusal() {
    let (mut alice, _) = pair();
    let beacons: Vec<u8> = hex::decode("92cdffffc40481a170c3").unwrap().repeat(100_000);
    assert_eq!(alice.handle_bytes(&beacons), Err(MuxError::AnswersUnread));

    let (mut alice, _) = pair();
    let mut asked = 0;
    for number in 1..=u16::MAX - 1 {
        let p = packet(
            0,
            &msgpack::encode(&Value::Array(vec!["x".into(), number.into(), 0.into()])),
        );
        alice.handle_bytes(&p).unwrap();
        asked += events(&mut alice).len();
        drain(&mut alice);
    }
    assert_eq!(asked, MAX_CHANNELS);

    let (mut alice, _) = pair();
    assert_eq!(
        alice.handle_bytes(&[0x92, 1, 0xc6, 0, 1, 0, 0]),
        Err(MuxError::PacketTooLong(65_536))
    );
    let (mut alice, _) = pair();
    let mut deep = vec![0x91; 10_000];
    deep.push(0);
    assert!(matches!(
        alice.handle_bytes(&deep),
        Err(MuxError::Stream(_))
    ));
    let (mut alice, _) = pair();
    assert_eq!(
        alice.handle_bytes(&[0xc1]),
        Err(MuxError::Stream(MsgpackError::Malformed))
    );
}

#[test]
fn too_many_channels_and_too_long_names_are_refused_before_anything_is_sent() {
    let (mut alice, mut bob) = pair();
    let long = "x".repeat(MAX_NAME + 1);
    assert_eq!(alice.request(&long), Err(MuxError::NameTooLong));
    assert_eq!(drain(&mut alice), b"");
    let ids: Vec<_> = (0..MAX_CHANNELS)
        .map(|_| alice.request(&long[..MAX_NAME]).unwrap())
        .collect();
    assert_eq!(alice.request("x"), Err(MuxError::TooManyChannels));
    assert_eq!(alice.channel_count(), MAX_CHANNELS);
    carry(&mut alice, &mut bob);
    let asked = events(&mut bob);
    assert_eq!(asked.len(), MAX_CHANNELS);
    // The peer's own count as well.
    assert_eq!(bob.request("x"), Err(MuxError::TooManyChannels));
    let Event::Requested(last, name) = &asked[MAX_CHANNELS - 1] else {
        panic!("{asked:?}")
    };
    bob.decline(*last, name).unwrap();
    carry(&mut alice, &mut bob);
    assert_eq!(events(&mut alice), [Event::Declined(ids[MAX_CHANNELS - 1])]);
    // There is room for one again.
    alice.request("x").unwrap();
    assert_eq!(alice.request("x"), Err(MuxError::TooManyChannels));

    // A name that is too long for us is declined, with a short answer.
    let (mut alice, _) = pair();
    let ask = Value::Array(vec![long.as_str().into(), 7.into(), 0.into()]);
    alice
        .handle_bytes(&packet(0, &msgpack::encode(&ask)))
        .unwrap();
    assert_eq!(events(&mut alice), []);
    let answer = drain(&mut alice);
    assert!(answer.ends_with(&[7, 2]) && answer.len() < MAX_NAME / 2);
}

#[test]
fn objects_of_other_shapes_are_skipped_and_wide_numbers_read() {
    let (mut alice, _) = pair();
    let id = alice.request("x").unwrap();
    let mut stream = vec![0xc0, 0x93, 1, 2, 3, 0x81, 0xa1, b'k', 0x92, 1, 2];
    // Accept, with a 64-bit channel, a 32-bit length, in an array32.
    stream.extend(hex::decode("dd00000002cf0000000000000000c600000005").unwrap());
    stream.extend(hex::decode("93a1780101").unwrap());
    for byte in stream {
        alice.handle_bytes(&[byte]).unwrap();
    }
    assert_eq!(events(&mut alice), [Event::Accepted(id)]);
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut mux = Mux::new(TlsRole::Client);
        let _ = mux.handle_bytes(&bytes);
        while mux.poll_event().is_some() {}
    }

    #[test]
    fn data_arrives_whole_at_any_cut(
        writes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..5000), 0..6),
        cut in 1usize..600,
    ) {
        let (mut alice, mut bob) = pair();
        let id = alice.request("x").unwrap();
        carry(&mut alice, &mut bob);
        let Some(Event::Requested(there, name)) = bob.poll_event() else { panic!() };
        bob.accept(there, &name).unwrap();
        carry(&mut alice, &mut bob);
        for w in &writes { alice.write(id, w).unwrap(); }
        alice.end(id);
        for piece in drain(&mut alice).chunks(cut) { bob.handle_bytes(piece).unwrap(); }
        let mut got = Vec::new();
        let mut ended = false;
        for e in events(&mut bob) {
            match e {
                Event::Data(i, d) => { prop_assert_eq!(i, there); got.extend(d); }
                Event::Ended(i) => { prop_assert_eq!(i, there); ended = true; }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert!(ended);
        prop_assert_eq!(got, writes.concat());
    }
}
