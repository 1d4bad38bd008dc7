//! Both ends of `git://`, against the recorded traffic of two daemons and against each other.
#![allow(clippy::unwrap_used, missing_docs)]

mod git_support;

use git_support::{Exchange, Memory, channels, drain, group, one_to_one};
use proptest::prelude::*;
use starling_core::git::fetch::{Fetch, FetchError, NotReady, Outcome, Output};
use starling_core::git::pktline::{Decoder, Line};
use starling_core::git::reach::{haves, missing};
use starling_core::git::serve::{Event, ServeError, UploadPack};
use starling_core::git::{Repository, pktline};
use starling_core::id::{ConversationId, DeviceId, ObjectId};
use std::collections::BTreeSet;

const CONVERSATION: &str = "0879017ff78f19be16f039f8884fccd5057fe293";
const ANN: &str = "2f063e365e48f1eacc9f020455250f5ce8667ee3f731a1a9af37145612e63387";
const BEN: &str = "cb934627be6f1358ef493e1db79fcbf98a4de83add1cfe12358a02cd6ef0db8f";

fn conversation() -> ConversationId {
    CONVERSATION.parse().unwrap()
}

fn id(hex: &str) -> ObjectId {
    hex.parse().unwrap()
}

/// The ids after `want ` and `have ` in what a client wrote.
fn words(exchange: &Exchange, word: &str) -> Vec<ObjectId> {
    let mut decoder = Decoder::new();
    decoder.push(&exchange.client.concat());
    let mut out = Vec::new();
    while let Some(line) = decoder.next_line().unwrap() {
        if let Line::Data(data) = line
            && let Some(rest) = data.strip_prefix(word.as_bytes())
        {
            out.push(id(std::str::from_utf8(&rest[..40]).unwrap()));
        }
    }
    out
}

/// Pack bytes in the side-band lines of what a server wrote.
fn pack_of(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    let mut out = Vec::new();
    while let Some(line) = decoder.next_line().unwrap() {
        if let Line::Data([1, data @ ..]) = line {
            out.extend_from_slice(data);
        }
    }
    out
}

fn chop(frames: &[Vec<u8>], piece: usize) -> Vec<Vec<u8>> {
    match piece {
        0 => frames.to_vec(),
        n => frames.concat().chunks(n).map(<[u8]>::to_vec).collect(),
    }
}

#[test]
fn the_recorded_client_is_served_whatever_the_pieces() {
    let all = one_to_one();
    for channel in channels() {
        for piece in [0, 1, 3, 50, 1000] {
            let mut server = UploadPack::new(conversation());
            for exchange in &channel {
                let want = words(exchange, "want ")[0];
                let repo = Memory {
                    head: Some(want),
                    ..all.clone()
                };
                let (mut bytes, mut events) = (Vec::new(), Vec::new());
                for chunk in chop(&exchange.client, piece) {
                    server.handle_input(&chunk, &repo);
                    let (b, e, closed) = drain(&mut server, &repo);
                    assert!(!closed, "{e:?}");
                    bytes.extend(b);
                    events.extend(e);
                }
                assert_eq!(events, [Event::Sent(want)]);
                assert!(!server.is_busy());

                let text = String::from_utf8_lossy(&bytes);
                let shown: String = text.chars().take(300).collect();
                assert!(text.starts_with(&format!("0056{want} HEAD\0multi_ack side-band-64k no-progress\n003d{want} refs/heads/main\n0000")), "{shown}");
                // One word before the pack, as libgit2 expects without multi_ack.
                let haves = words(exchange, "have ");
                let word = match haves.first() {
                    None => "0008NAK\n".into(),
                    Some(first) => format!("0031ACK {first}\n"),
                };
                assert!(
                    text.contains(&format!("refs/heads/main\n0000{word}")),
                    "{shown}"
                );
                assert!(text.ends_with("0000"));

                // Nothing is missing that the reference would have sent.
                let theirs = Memory::default().add_pack(&pack_of(&exchange.server.concat()));
                let mut peer = Memory::default();
                let ours = peer.add_pack(&pack_of(&bytes));
                let set = |r: &starling_core::git::pack::Resolved| {
                    r.objects.iter().map(|o| o.id).collect::<BTreeSet<_>>()
                };
                assert!(set(&ours).is_subset(&set(&theirs)));
                let have: BTreeSet<_> = haves.into_iter().collect();
                let needed: BTreeSet<_> = missing(&all, want, &have).unwrap().into_iter().collect();
                assert_eq!(set(&ours), needed);
            }
        }
    }
}

#[test]
fn the_recorded_server_is_understood_whatever_the_pieces() {
    for channel in channels() {
        for piece in [0, 1, 3, 50, 1000] {
            let mut fetch = Fetch::new(conversation(), ANN.parse().unwrap(), 1 << 20);
            for exchange in &channel {
                let want = words(exchange, "want ")[0];
                let haves = words(exchange, "have ");
                fetch.start().unwrap();
                assert_eq!(fetch.start(), Err(NotReady::Busy));
                let (mut sent, mut pack, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
                for chunk in chop(&exchange.server, piece) {
                    fetch.handle_input(&chunk);
                    while let Some(output) = fetch.poll_output() {
                        match output {
                            Output::Send(b) => sent.push(b),
                            Output::Advertised(head) => {
                                assert_eq!(head, want);
                                fetch.want(&haves);
                            }
                            Output::Pack(b) => pack.extend(b),
                            Output::Outcome(o) => outcomes.push(o),
                        }
                    }
                }
                let received = pack.len() as u64;
                assert_eq!(
                    outcomes,
                    [Outcome::Done {
                        head: want,
                        received
                    }]
                );
                assert_eq!(pack, pack_of(&exchange.server.concat()));
                assert!(
                    Memory::default()
                        .add_pack(&pack)
                        .objects
                        .iter()
                        .any(|o| o.id == want)
                );

                // What we say is what libgit2 says, but for the capabilities we do not use.
                let ours = String::from_utf8(sent.concat()).unwrap();
                let theirs = String::from_utf8(exchange.client.concat()).unwrap();
                assert_eq!(
                    ours.replace(BEN, ANN),
                    theirs
                        .replace(BEN, ANN)
                        .replace("004dwant", "0040want")
                        .replace(" include-tag ", "")
                );
                assert!(sent.iter().all(|s| s.len() < 65536));
            }
        }
    }
}

/// Runs a fetch of `client` from `server`; the outcome, the events, and the packed objects.
fn run(
    fetch: &mut Fetch,
    ours: &Memory,
    server: &mut UploadPack,
    theirs: &Memory,
) -> (Outcome, Vec<Event>, Vec<u8>) {
    run_in_pieces(fetch, ours, server, theirs, 0)
}

/// The same where both are fed `piece` bytes at a time, unless it is 0.
fn run_in_pieces(
    fetch: &mut Fetch,
    ours: &Memory,
    server: &mut UploadPack,
    theirs: &Memory,
    piece: usize,
) -> (Outcome, Vec<Event>, Vec<u8>) {
    fetch.start().unwrap();
    let (mut pack, mut events) = (Vec::new(), Vec::new());
    let mut outcome = None;
    loop {
        let mut moved = false;
        while let Some(output) = fetch.poll_output() {
            moved = true;
            match output {
                Output::Send(b) => chop(&[b], piece)
                    .iter()
                    .for_each(|b| server.handle_input(b, theirs)),
                Output::Advertised(head) if ours.contains(&head) => fetch.up_to_date(),
                Output::Advertised(_) => fetch.want(&haves(ours).unwrap()),
                Output::Pack(b) => pack.extend(b),
                Output::Outcome(o) => assert_eq!(outcome.replace(o), None),
            }
        }
        let (bytes, e, _) = drain(server, theirs);
        events.extend(e);
        if !bytes.is_empty() {
            moved = true;
            chop(&[bytes], piece)
                .iter()
                .for_each(|b| fetch.handle_input(b));
        }
        if !moved {
            return (outcome.unwrap(), events, pack);
        }
    }
}

#[test]
fn alice_fetches_from_bob_again_and_again_on_one_channel() {
    let mut bob = group();
    let mut alice = Memory::default();
    let conversation = ConversationId([7; 20]);
    let mut server = UploadPack::new(conversation);
    let mut fetch = Fetch::new(conversation, DeviceId([1; 32]), 1 << 20);
    let mut sizes = Vec::new();
    for (round, piece) in (0..5).zip([1, 0, 3, 50, 1]) {
        let head = bob.head.unwrap();
        let (outcome, events, pack) = run_in_pieces(&mut fetch, &alice, &mut server, &bob, piece);
        assert_eq!(
            outcome,
            Outcome::Done {
                head,
                received: pack.len() as u64
            }
        );
        assert_eq!(events, [Event::Sent(head)]);
        sizes.push(alice.add_pack(&pack).objects.len());
        alice.head = Some(head);
        assert!(missing(&alice, head, &BTreeSet::new()).is_ok());

        let (outcome, events, _) = run_in_pieces(&mut fetch, &alice, &mut server, &bob, piece);
        assert_eq!(outcome, Outcome::UpToDate(head));
        assert_eq!(events, [Event::UpToDate(head)]);

        bob.commit(&[head], 2_000_000_000 + round, "next");
    }
    // The commit, and at first its tree and its file.
    assert_eq!(sizes[0], group().objects.len() - unreachable(&group()));
    assert!(sizes[1..].iter().all(|n| *n <= 3), "{sizes:?}");
}

/// Objects of a bundle that main does not reach.
fn unreachable(repo: &Memory) -> usize {
    repo.objects.len()
        - missing(repo, repo.head.unwrap(), &BTreeSet::new())
            .unwrap()
            .len()
}

#[test]
fn after_a_long_time_apart_only_the_difference_travels() {
    let mut alice = Memory::default();
    let mut at = alice.commit(&[], 0, "initial");
    for i in 1..2000 {
        at = alice.commit(&[at], i, &format!("message {i}"));
    }
    let mut bob = alice.clone();
    // A thousand messages of Alice's that Bob lacks, three of Bob's that Alice lacks.
    for i in 0..1000 {
        let head = alice.head.unwrap();
        alice.commit(&[head], 5000 + i, &format!("alice {i}"));
    }
    for i in 0..3 {
        let head = bob.head.unwrap();
        bob.commit(&[head], 5000 + i, &format!("bob {i}"));
    }
    assert!(haves(&alice).unwrap().len() <= 256);
    let mut server = UploadPack::new(conversation());
    let mut fetch = Fetch::new(conversation(), DeviceId([1; 32]), 1 << 20);
    let (outcome, _, pack) = run(&mut fetch, &alice, &mut server, &bob);
    assert!(matches!(outcome, Outcome::Done { .. }));
    let commits = alice.add_pack(&pack).objects.len();
    assert!(commits < 400, "{commits}");
}

#[test]
fn the_server_names_what_it_refuses() {
    let repo = one_to_one();
    let head = repo.head.unwrap();
    let request = |path: &str| {
        let mut out = Vec::new();
        pktline::write(
            &mut out,
            format!("git-upload-pack /{path}\0host=x\0").as_bytes(),
        )
        .unwrap();
        out
    };
    let ask = |input: &[u8]| {
        let mut server = UploadPack::new(conversation());
        server.handle_input(input, &repo);
        let (bytes, events, closed) = drain(&mut server, &repo);
        let error = events.into_iter().find_map(|e| match e {
            Event::Failed(e) => Some(e),
            _ => None,
        });
        assert_eq!(error.is_some(), closed);
        (error, String::from_utf8_lossy(&bytes).into_owned())
    };
    let (error, text) = ask(&request("0000000000000000000000000000000000000000"));
    assert!(matches!(error, Some(ServeError::Request(_))));
    assert!(text[4..].starts_with("ERR "), "{text}");
    assert!(matches!(
        ask(&request("../x")).0,
        Some(ServeError::Request(_))
    ));
    assert!(matches!(
        ask(b"0012git-receive-pa").0,
        Some(ServeError::Request(_))
    ));
    assert!(matches!(
        ask(b"GET / HTTP/1.1").0,
        Some(ServeError::PktLine(_))
    ));

    let with = |rest: &str| ask(&[&request(CONVERSATION)[..], rest.as_bytes()].concat()).0;
    assert_eq!(with(""), None);
    assert_eq!(with("0000"), None);
    // Something of ours, but not what was offered.
    let parent = "47ddfef5c4abbd97184e1e5da2c27376ee2d7833";
    assert_eq!(
        with(&format!("0031want {parent}0000")),
        Some(ServeError::NotOffered(parent.into()))
    );
    assert!(matches!(with("0008what"), Some(ServeError::Unexpected(_))));
    assert!(matches!(
        with("000fwant 012345"),
        Some(ServeError::Unexpected(_))
    ));
    let wants = format!("0031want {head}").repeat(65);
    assert_eq!(with(&wants), Some(ServeError::TooMany));
    let have = |h: &str| with(&format!("0031want {head}00000031have {h}0009done\n"));
    assert!(matches!(
        have(&"Z".repeat(40)),
        Some(ServeError::Unexpected(_))
    ));
    // A commit nobody knows is no error.
    assert_eq!(have(&"0".repeat(40)), None);
    assert!(matches!(
        with(&format!("0031want {head}0000000ddeepen 1\n")),
        Some(ServeError::Unexpected(_))
    ));
}

#[test]
fn a_thousand_million_paths_are_twelve_objects() {
    use starling_core::git::object::{Kind, Mode, TreeEntry, write_tree};
    let mut repo = Memory::default();
    let mut below = repo.add(Kind::Blob, b"boom");
    let names: Vec<_> = (0..10).map(|n| format!("d{n}")).collect();
    for level in 0..10 {
        let mode = if level == 0 { Mode::File } else { Mode::Tree };
        let mut entries: Vec<_> = names
            .iter()
            .map(|n| TreeEntry {
                mode,
                name: n.as_bytes(),
                id: below,
            })
            .collect();
        below = repo.add(Kind::Tree, &write_tree(&mut entries));
    }
    let text = format!("tree {below}\nauthor A <a> 1 +0000\ncommitter A <a> 1 +0000\n\n");
    let head = repo.add(Kind::Commit, text.as_bytes());
    assert_eq!(missing(&repo, head, &BTreeSet::new()).unwrap().len(), 12);
}

#[test]
fn a_damaged_repository_ends_the_pack_with_an_error() {
    let mut repo = one_to_one();
    let head = repo.head.unwrap();
    let commit = repo.objects.get(&head).unwrap().1.clone();
    let tree = starling_core::git::object::parse_commit(&commit)
        .unwrap()
        .tree;
    repo.objects.remove(&tree);
    let mut server = UploadPack::new(conversation());
    let mut input = Vec::new();
    pktline::write(
        &mut input,
        format!("git-upload-pack /{CONVERSATION}\0").as_bytes(),
    )
    .unwrap();
    input.extend(format!("0031want {head}00000009done\n").into_bytes());
    server.handle_input(&input, &repo);
    let (bytes, events, closed) = drain(&mut server, &repo);
    assert!(closed);
    assert!(matches!(events[..], [Event::Failed(ServeError::Broken(_))]));
    assert!(String::from_utf8_lossy(&bytes).contains("\x03the repository lacks"));
}

#[test]
fn a_flood_while_a_pack_goes_out_is_cut_off() {
    let repo = one_to_one();
    let mut server = UploadPack::new(conversation());
    let mut input = Vec::new();
    pktline::write(
        &mut input,
        format!("git-upload-pack /{CONVERSATION}\0").as_bytes(),
    )
    .unwrap();
    input.extend(format!("0031want {}00000009done\n", repo.head.unwrap()).into_bytes());
    server.handle_input(&input, &repo);
    assert!(server.is_sending());
    server.handle_input(&vec![b'0'; 300 << 10], &repo);
    let (_, events, closed) = drain(&mut server, &repo);
    assert_eq!(events, [Event::Failed(ServeError::Flood)]);
    assert!(closed);
}

/// What a fetch makes of a server's bytes, the client having no commits.
fn fetch_from(bytes: &[u8], max_pack: u64) -> (Option<Outcome>, Fetch) {
    let mut fetch = Fetch::new(conversation(), DeviceId([1; 32]), max_pack);
    fetch.start().unwrap();
    let mut outcome = None;
    for chunk in bytes.chunks(7) {
        fetch.handle_input(chunk);
        while let Some(o) = fetch.poll_output() {
            match o {
                Output::Advertised(_) => fetch.want(&[]),
                Output::Outcome(o) => assert_eq!(outcome.replace(o), None),
                _ => {}
            }
        }
    }
    (outcome, fetch)
}

fn lines(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for l in lines {
        match *l {
            "" => out.extend_from_slice(pktline::FLUSH),
            l => pktline::write(&mut out, l.as_bytes()).unwrap(),
        }
    }
    out
}

#[test]
fn the_client_names_what_it_refuses() {
    let ad = &format!("{CONVERSATION} HEAD\0side-band-64k\n")[..];
    let main = &format!("{CONVERSATION} refs/heads/main\n")[..];
    let ack = &format!("ACK {CONVERSATION} continue\n")[..];
    let fails = |l: &[&str]| match fetch_from(&lines(l), 100).0 {
        Some(Outcome::Failed(e)) => e,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        fails(&["ERR no\x07 such\n"]),
        FetchError::Refused("no such".into())
    );
    assert_eq!(
        fails(&[
            &format!("{} capabilities^{{}}\0side-band-64k", "0".repeat(40)),
            ""
        ]),
        FetchError::NoBranch
    );
    assert_eq!(
        fails(&[&format!("{CONVERSATION} HEAD\0ofs-delta"), main, ""]),
        FetchError::NoSideBand
    );
    assert!(matches!(fails(&["<html>"]), FetchError::Unexpected(_)));
    assert_eq!(
        fails(&[ad, main, "", ack, "NAK\n", "\x03out of disk"]),
        FetchError::Refused("out of disk".into())
    );
    assert!(matches!(
        fails(&[ad, main, "", "PACK"]),
        FetchError::Unexpected(_)
    ));
    assert!(matches!(
        fails(&[ad, main, "", "NAK\n", ""]),
        FetchError::Unexpected(_)
    ));
    assert_eq!(
        fails(&[
            ad,
            main,
            "",
            &format!("\x01{}", "x".repeat(60)),
            "\x02hm",
            &format!("\x01{}", "x".repeat(60))
        ]),
        FetchError::TooLarge(100)
    );
    let mut many = vec![ad, main, ""];
    many.extend(vec![ack; 1100]);
    assert_eq!(fails(&many), FetchError::TooMuch);
    let mut refs = vec![ad];
    let r = format!("{CONVERSATION} refs/remotes/{}/main", "d".repeat(64));
    refs.extend(vec![&r[..]; 10_000]);
    assert_eq!(fails(&refs), FetchError::TooMuch);
    assert!(matches!(
        fetch_from(b"HTTP/1.1 400", 100).0,
        Some(Outcome::Failed(FetchError::PktLine(_)))
    ));
}

#[test]
fn the_client_tolerates_what_servers_say_beside_the_point() {
    let ad = &format!("{CONVERSATION} HEAD\0side-band side-band-64k shallow\n")[..];
    let ack = &format!("ACK {CONVERSATION}\n")[..];
    let good = lines(&[
        "NAK\n",
        "",
        "version 1\n",
        ad,
        "",
        ack,
        "NAK\n",
        ack,
        "\x02counting",
        "\x01PA",
        "\x01",
        "\x02hm",
        "\x01CK",
        "",
        ack,
    ]);
    let (outcome, mut fetch) = fetch_from(&good, 100);
    assert_eq!(
        outcome,
        Some(Outcome::Done {
            head: id(CONVERSATION),
            received: 4
        })
    );
    // What is left over does not disturb the next fetch.
    fetch.start().unwrap();
    while fetch.poll_output().is_some() {}
    fetch.handle_input(&lines(&[ad, ""]));
    assert_eq!(
        fetch.poll_output(),
        Some(Output::Advertised(id(CONVERSATION)))
    );
    // Neither a close nor a deadline is forgotten, nor told twice.
    fetch.handle_timeout();
    assert_eq!(
        fetch.poll_output(),
        Some(Output::Outcome(Outcome::Failed(FetchError::TimedOut)))
    );
    fetch.handle_closed();
    assert_eq!(fetch.poll_output(), None);
    assert_eq!(fetch.start(), Err(NotReady::Broken));
}

#[test]
fn a_close_in_the_middle_of_a_pack_is_told_once() {
    let ad = &format!("{CONVERSATION} HEAD\0side-band-64k\n")[..];
    let (outcome, mut fetch) = fetch_from(&lines(&[ad, "", "NAK\n", "\x01PACK"]), 100);
    assert_eq!(outcome, None);
    assert!(fetch.is_busy());
    fetch.handle_closed();
    assert_eq!(
        fetch.poll_output(),
        Some(Output::Outcome(Outcome::Failed(FetchError::Closed)))
    );
    assert_eq!(fetch.poll_output(), None);
}

proptest! {
    #[test]
    fn any_bytes_at_the_server_end(pieces in proptest::collection::vec(prop_oneof![
        Just(b"0000".to_vec()),
        Just(b"0009done\n".to_vec()),
        Just(format!("0031want {CONVERSATION}").into_bytes()),
        Just(format!("0031have {CONVERSATION}").into_bytes()),
        Just(lines(&[&format!("git-upload-pack /{CONVERSATION}\0host=x\0")])),
        proptest::collection::vec(any::<u8>(), 0..20),
    ], 0..12)) {
        let repo = Memory { head: Some(id(CONVERSATION)), ..one_to_one() };
        let mut server = UploadPack::new(conversation());
        let mut closes = 0;
        for p in pieces {
            server.handle_input(&p, &repo);
            closes += usize::from(drain(&mut server, &repo).2);
        }
        prop_assert!(closes <= 1);
    }

    #[test]
    fn any_bytes_at_the_client_end(pieces in proptest::collection::vec(prop_oneof![
        Just(b"0000".to_vec()),
        Just(b"0008NAK\n".to_vec()),
        Just(lines(&[&format!("{CONVERSATION} HEAD\0side-band-64k\n")])),
        Just(lines(&["\x01PACK"])),
        proptest::collection::vec(any::<u8>(), 0..20),
    ], 0..12)) {
        fetch_from(&pieces.concat(), 20);
    }

    /// Whatever the shape of a history and its clocks: with what the peer has
    /// and what it is sent, nothing is missing, and nothing is sent in vain if
    /// clocks are right.
    #[test]
    fn nothing_a_peer_needs_is_left_out(
        shape in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>(), 0i64..50), 1..40),
        have in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        right_clocks in any::<bool>(),
    ) {
        let mut repo = Memory::default();
        let mut commits = vec![repo.commit(&[], 0, "initial")];
        for (i, (a, b, merge, skew)) in shape.iter().enumerate() {
            let mut parents = vec![*a.get(&commits)];
            if *merge && b.get(&commits) != a.get(&commits) {
                parents.push(*b.get(&commits));
            }
            let time = if right_clocks { i as i64 + 1 } else { *skew };
            commits.push(repo.commit(&parents, time, &format!("m{i}")));
        }
        let want = *commits.last().unwrap();
        let have: BTreeSet<_> = have.iter().map(|h| *h.get(&commits)).collect();
        let all = |id| missing(&repo, id, &BTreeSet::new()).unwrap();
        let peer: BTreeSet<_> = have.iter().flat_map(|h| all(*h)).collect();
        let sent = missing(&repo, want, &have).unwrap();
        let once: BTreeSet<_> = sent.iter().copied().collect();
        prop_assert_eq!(once.len(), sent.len());
        for needed in all(want) {
            prop_assert!(peer.contains(&needed) || once.contains(&needed));
        }
        // Every beginning holds its commits whole.
        let mut so_far = peer.clone();
        for id in &sent {
            so_far.insert(*id);
            if repo.object(id).unwrap().0 == starling_core::git::object::Kind::Commit {
                prop_assert!(all(*id).iter().all(|needed| so_far.contains(needed)));
            }
        }
        if right_clocks {
            for id in &sent {
                if repo.object(id).unwrap().0 == starling_core::git::object::Kind::Commit {
                    prop_assert!(!peer.contains(id));
                }
            }
        }
        prop_assert!(haves(&repo).unwrap().contains(commits.first().unwrap()));
    }
}
