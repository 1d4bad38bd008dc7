use super::super::CertificateSource;
use super::super::testkit::Mesh;
use super::*;
use crate::crypto::SignatureAlgorithm;
use crate::id::ConversationId;
use crate::identity::CertificateChain;
use proptest::prelude::*;

const OWN: DeviceId = DeviceId([0; 32]);
const ME: AccountId = AccountId([1; 20]);
const BOB: AccountId = AccountId([2; 20]);
const CONVERSATION: ConversationId = ConversationId([9; 20]);

/// After the end of leniency with old mobile devices.
const TODAY: u64 = LEGACY_MOBILE_UNTIL + 1_000_000;

fn now(seconds: u64) -> Now {
    Now {
        clock: Duration::from_secs(seconds),
        unix: TODAY + seconds,
    }
}

fn dev(n: u8) -> DeviceId {
    DeviceId([n; 32])
}

fn account(n: u16) -> AccountId {
    let mut id = [0xaa; 20];
    id[..2].copy_from_slice(&n.to_be_bytes());
    AccountId(id)
}

fn engine() -> Drt {
    Drt::new(DrtConfig {
        device: OWN,
        account: ME,
        conversation: CONVERSATION,
        seed: [5; 32],
    })
}

/// An engine in a group of `others` people besides us and Bob.
fn in_group(others: u16) -> Drt {
    let mut drt = engine();
    let accounts: BTreeSet<_> = (0..others).map(account).chain([ME, BOB]).collect();
    let accounts = Arc::new(accounts);
    let banned = BTreeSet::new();
    drt.handle(
        now(0),
        Input::Members {
            accounts,
            invited: BTreeSet::new(),
            banned,
        },
    );
    drt
}

fn drain(drt: &mut Drt) -> Vec<Output> {
    core::iter::from_fn(|| drt.poll_output()).collect()
}

fn connects(outputs: &[Output]) -> Vec<DeviceId> {
    outputs
        .iter()
        .filter_map(|o| match o {
            Output::Connect(d) => Some(*d),
            _ => None,
        })
        .collect()
}

fn sent(outputs: &[Output]) -> Vec<(DeviceId, Message)> {
    outputs
        .iter()
        .filter_map(|o| match o {
            Output::Send { to, message } => Some((*to, (**message).clone())),
            _ => None,
        })
        .collect()
}

fn present(drt: &mut Drt, account: AccountId, device: DeviceId) {
    drt.handle(
        now(1),
        Input::Presence {
            account,
            device,
            online: true,
        },
    );
}

fn connect(drt: &mut Drt, device: DeviceId, account: AccountId) -> Vec<Output> {
    drt.handle(now(2), Input::Connected { device, account });
    drain(drt)
}

fn hear(drt: &mut Drt, from: DeviceId, message: Message) -> Vec<Output> {
    drt.handle(
        now(3),
        Input::Message {
            from,
            message: Box::new(message),
        },
    );
    drain(drt)
}

// --- single engines ---

#[test]
fn members_are_watched_until_there_is_a_neighbour() {
    let mut drt = in_group(98);
    let outputs = drain(&mut drt);
    let [Output::Watch(first)] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(first.len(), 9);
    assert!(first.contains(&ME));
    let who = *first.iter().find(|a| **a != ME).unwrap();
    present(&mut drt, who, dev(7));
    assert_eq!(connects(&drain(&mut drt)), [dev(7)]);
    let outputs = connect(&mut drt, dev(7), who);
    assert!(outputs.contains(&Output::Online(true)));
    assert_eq!(sent(&outputs), [(dev(7), Message::find(OWN))]);
    assert_eq!(drt.watched().len(), 1);
    drt.handle(now(9), Input::Disconnected { device: dev(7) });
    let outputs = drain(&mut drt);
    assert!(outputs.contains(&Output::Online(false)));
    assert_eq!(drt.watched().len(), 9);
    // It is looked for again, a moment later.
    assert!(connects(&outputs).is_empty());
    drt.handle(now(13), Input::Timeout);
    assert_eq!(connects(&drain(&mut drt)), [dev(7)]);
}

#[test]
fn who_is_shut_out_again_and_again_asks_ever_less() {
    let mut drt = in_group(3);
    present(&mut drt, BOB, dev(7));
    assert_eq!(connects(&drain(&mut drt)), [dev(7)]);
    let (mut at, mut attempts) = (2, 0);
    while at < 3600 {
        drt.handle(
            now(at),
            Input::Connected {
                device: dev(7),
                account: BOB,
            },
        );
        drt.handle(now(at), Input::Disconnected { device: dev(7) });
        attempts += 1;
        while connects(&drain(&mut drt)).is_empty() && at < 3600 {
            at += 1;
            drt.handle(now(at), Input::Timeout);
        }
    }
    assert!((8..=20).contains(&attempts), "{attempts}");
}

#[test]
fn in_a_small_group_everybody_is_watched_and_connected() {
    let mut drt = in_group(5);
    assert_eq!(drt.watched().len(), 7);
    for n in 0..5 {
        present(&mut drt, account(u16::from(n)), dev(n + 1));
    }
    let first: Vec<DeviceId> = connects(&drain(&mut drt));
    assert_eq!(first.len(), PARALLEL);
    let mut all: BTreeSet<DeviceId> = first.iter().copied().collect();
    for n in 0..5 {
        all.extend(connects(&connect(
            &mut drt,
            dev(n + 1),
            account(u16::from(n)),
        )));
    }
    assert_eq!(all.len(), 5);
    assert_eq!(drt.neighbours().len(), 5);
    assert_eq!(drt.watched().len(), 7);
}

#[test]
fn a_failure_waits_as_long_as_it_is_told() {
    let mut drt = in_group(98);
    let who = *drt.watched().iter().find(|a| **a != ME).unwrap();
    drain(&mut drt);
    present(&mut drt, who, dev(7));
    assert_eq!(connects(&drain(&mut drt)), [dev(7)]);
    let not_before = Duration::from_secs(500);
    drt.handle(
        now(5),
        Input::Failed {
            device: dev(7),
            not_before,
        },
    );
    // Another member is watched in place of the one who does not answer.
    assert!(!drt.watched().contains(&who));
    let mut at = Duration::from_secs(5);
    while let Some(next) = drt.poll_timeout().filter(|t| *t < not_before) {
        assert!(next > at);
        at = next;
        drt.handle(now(at.as_secs()), Input::Timeout);
        assert!(connects(&drain(&mut drt)).is_empty());
    }
    drt.handle(now(500), Input::Timeout);
    assert_eq!(connects(&drain(&mut drt)), [dev(7)]);
}

#[test]
fn answers_name_the_nearest_neighbours_and_are_taken_only_when_asked_for() {
    let mut drt = in_group(98);
    for n in 1..=4 {
        connect(&mut drt, dev(n << 4), account(u16::from(n)));
    }
    let outputs = hear(&mut drt, dev(0x10), Message::find(dev(0x31)));
    let [(to, answer)] = &sent(&outputs)[..] else {
        panic!("{outputs:?}")
    };
    let found = answer.found.clone().unwrap();
    assert_eq!((*to, found.nodes), (dev(0x10), vec![dev(0x30), dev(0x20)]));
    // Neither who asks nor what is asked for is named.
    let outputs = hear(&mut drt, dev(0x10), Message::find(dev(0x10)));
    let nodes = sent(&outputs)[0].1.found.clone().unwrap().nodes;
    assert_eq!(nodes.len(), 2);
    assert!(!nodes.contains(&dev(0x10)));

    let named = |n| {
        Message::found(Found {
            nodes: vec![dev(n), OWN],
            ..Found::default()
        })
    };
    hear(&mut drt, dev(0x10), named(0x81));
    assert!(drt.nodes().any(|(id, _)| *id == dev(0x81)));
    assert!(!drt.nodes().any(|(id, _)| *id == OWN));
    // One question, one answer.
    hear(&mut drt, dev(0x10), named(0x82));
    assert!(!drt.nodes().any(|(id, _)| *id == dev(0x82)));
    // Strangers are not heard at all.
    assert!(hear(&mut drt, dev(0x99), Message::find(OWN)).is_empty());
}

#[test]
fn who_is_no_member_is_not_let_in_and_who_is_banned_is_shut_out() {
    let mut drt = in_group(3);
    drain(&mut drt);
    let stranger = AccountId([0xee; 20]);
    assert_eq!(connect(&mut drt, dev(1), stranger), [Output::Close(dev(1))]);
    assert!(drt.neighbours().is_empty());
    present(&mut drt, stranger, dev(2));
    assert!(drain(&mut drt).is_empty());
    connect(&mut drt, dev(3), BOB);
    connect(&mut drt, dev(4), account(0));
    drt.handle(
        now(5),
        Input::Members {
            accounts: Arc::new(BTreeSet::from([ME, account(0)])),
            invited: BTreeSet::new(),
            banned: BTreeSet::from([dev(4)]),
        },
    );
    let outputs = drain(&mut drt);
    assert!(outputs.contains(&Output::Close(dev(3))) && outputs.contains(&Output::Close(dev(4))));
    assert!(drt.neighbours().is_empty());
    assert!(connect(&mut drt, dev(4), account(0)).contains(&Output::Close(dev(4))));
}

#[test]
fn who_was_asked_in_is_let_in_and_not_looked_for() {
    let mut drt = engine();
    drt.handle(
        now(0),
        Input::Members {
            accounts: Arc::new(BTreeSet::from([ME])),
            invited: BTreeSet::from([BOB]),
            banned: BTreeSet::new(),
        },
    );
    let (device, account) = (dev(1), BOB);
    drt.handle(now(1), Input::Linked { device, account });
    present(&mut drt, BOB, dev(2));
    assert!(connects(&drain(&mut drt)).is_empty() && !drt.watched().contains(&BOB));
    connect(&mut drt, device, BOB);
    assert_eq!(drt.neighbours(), [device]);
}

#[test]
fn a_device_that_turned_out_to_be_nobodys_is_not_named_again() {
    let mut drt = in_group(98);
    connect(&mut drt, dev(0x10), account(1));
    let named = || {
        Message::found(Found {
            nodes: vec![dev(0xf1)],
            ..Found::default()
        })
    };
    let outputs = hear(&mut drt, dev(0x10), named());
    assert_eq!(connects(&outputs), [dev(0xf1)]);
    drt.handle(now(4), Input::Refused { device: dev(0xf1) });
    drain(&mut drt);
    let mut at = 4;
    while sent(&drain(&mut drt)).is_empty() {
        at += 1;
        drt.handle(now(at), Input::Timeout);
    }
    assert!(connects(&hear(&mut drt, dev(0x10), named())).is_empty());
}

#[test]
fn links_that_are_there_are_used_first() {
    let mut drt = in_group(98);
    drain(&mut drt);
    connect(&mut drt, dev(0x10), account(1));
    connect(&mut drt, dev(0x11), account(2));
    connect(&mut drt, dev(0x12), account(3));
    // The half without us has room for two of these.
    for n in 0x80..0x90 {
        drt.table.learn(dev(n), None, false);
    }
    drt.linked.insert(dev(0x8a), account(5));
    drt.linked.insert(dev(0x83), account(6));
    drt.handle(now(4), Input::Timeout);
    let chosen: BTreeSet<DeviceId> = connects(&drain(&mut drt)).into_iter().collect();
    assert_eq!(chosen.len(), 1);
    assert!(chosen.is_subset(&BTreeSet::from([dev(0x83), dev(0x8a)])));
}

#[test]
fn news_reaches_out_and_the_connection_is_given_up_again() {
    let mut drt = in_group(98);
    connect(&mut drt, dev(0x10), account(1));
    connect(&mut drt, dev(0x11), account(2));
    connect(&mut drt, dev(0x81), account(3));
    connect(&mut drt, dev(0x82), account(4));
    drain(&mut drt);
    drt.handle(now(10), Input::Reach);
    let outputs = drain(&mut drt);
    let Some(Output::Watch(watched)) = outputs.last() else {
        panic!("{outputs:?}")
    };
    let before = drt.watch.clone();
    let (who, device) = (
        *watched
            .iter()
            .find(|a| before.clone().take_probe(a))
            .unwrap(),
        dev(0x83),
    );
    drt.handle(
        now(11),
        Input::Presence {
            account: who,
            device,
            online: true,
        },
    );
    assert_eq!(connects(&drain(&mut drt)), [device]);
    drt.handle(
        now(12),
        Input::Connected {
            device,
            account: who,
        },
    );
    drain(&mut drt);
    assert_eq!(drt.neighbours().len(), 5);
    drt.handle(now(72), Input::Timeout);
    assert!(drain(&mut drt).contains(&Output::Close(device)));
    assert_eq!(drt.neighbours().len(), 4);
}

// --- mobile devices ---

fn lease(device: DeviceId, issuer: AccountId) -> Lease {
    Lease {
        conversation: CONVERSATION,
        issuer,
        device,
        issued: TODAY - 10,
        expires: TODAY + 1000,
        signature: vec![1],
    }
}

fn mobile(device: DeviceId, issuer: AccountId) -> Message {
    Message {
        is_mobile: true,
        self_mobile: Some(MobileInfo {
            id: device,
            lease: Some(lease(device, issuer)),
        }),
        ..Message::new()
    }
}

fn check(outputs: &[Output]) -> Option<(DeviceId, CertificateSource)> {
    outputs.iter().find_map(|o| match o {
        Output::CheckLease { lease, source } => Some((lease.device, source.clone())),
        _ => None,
    })
}

#[test]
fn a_mobile_device_with_a_lease_is_no_neighbour_that_counts_and_is_woken() {
    let mut drt = in_group(98);
    connect(&mut drt, dev(0x80), BOB);
    let outputs = hear(&mut drt, dev(0x80), mobile(dev(0x80), BOB));
    assert_eq!(check(&outputs), Some((dev(0x80), CertificateSource::Store)));
    assert!(outputs.contains(&Output::Online(false)));
    let verdict = Verdict::Good;
    let device = dev(0x80);
    drt.handle(now(4), Input::LeaseChecked { device, verdict });
    assert!(drain(&mut drt).contains(&Output::MobilesChanged));
    assert!(drt.to_wake().is_empty());
    drt.handle(now(5), Input::Disconnected { device });
    drain(&mut drt);
    assert_eq!(drt.to_wake(), [device]);
    // Two that are nearer do it instead.
    connect(&mut drt, dev(0x81), account(1));
    assert_eq!(drt.to_wake(), [device]);
    connect(&mut drt, dev(0x82), account(2));
    assert!(drt.to_wake().is_empty());
    // Named in answers, and over when the lease is.
    let outputs = hear(&mut drt, dev(0x81), Message::find(dev(0x84)));
    let found = sent(&outputs)[0].1.found.clone().unwrap();
    assert_eq!(found.mobile, [device]);
    assert_eq!(found.infos.len(), 1);
    drt.handle(now(2000), Input::Timeout);
    assert!(drt.mobile_infos().is_empty());
}

#[test]
fn leases_that_cannot_be_are_not_even_checked() {
    for (n, bend) in [
        |l: &mut Lease| l.conversation = ConversationId([1; 20]),
        |l: &mut Lease| l.issuer = AccountId([0xee; 20]),
        |l: &mut Lease| l.device = dev(0x81),
        |l: &mut Lease| l.expires = TODAY,
        |l: &mut Lease| l.issued = TODAY + 1000,
        |l: &mut Lease| l.expires = l.issued + 31 * 24 * 3600,
    ]
    .iter()
    .enumerate()
    {
        let mut drt = in_group(98);
        connect(&mut drt, dev(0x80), BOB);
        let mut message = mobile(dev(0x80), BOB);
        if let Some(l) = message.self_mobile.as_mut().and_then(|i| i.lease.as_mut()) {
            bend(l);
        }
        let outputs = hear(&mut drt, dev(0x80), message);
        assert_eq!(check(&outputs), None, "{n}");
        assert!(drt.is_online());
    }
}

#[test]
fn of_a_lease_whose_signature_is_wrong_nothing_is_kept() {
    let mut drt = in_group(98);
    let device = dev(0x80);
    connect(&mut drt, device, BOB);
    let outputs = hear(&mut drt, device, mobile(device, BOB));
    assert_eq!(check(&outputs), Some((device, CertificateSource::Store)));
    let verdict = Verdict::Bad;
    drt.handle(now(4), Input::LeaseChecked { device, verdict });
    let outputs = drain(&mut drt);
    // It is not looked into once more with another certificate.
    assert_eq!(check(&outputs), None);
    assert!(!outputs.contains(&Output::MobilesChanged));
    assert!(drt.mobile_infos().is_empty() && drt.mobiles.timeout(now(4)).is_none());
    // Nor is it given on.
    connect(&mut drt, dev(0x81), account(1));
    let outputs = hear(&mut drt, dev(0x81), Message::find(dev(0x84)));
    let found = sent(&outputs)[0].1.found.clone().unwrap();
    assert!(found.mobile.is_empty() && found.infos.is_empty());
    // It keeps no good one out.
    let outputs = hear(&mut drt, device, mobile(device, BOB));
    assert_eq!(check(&outputs), Some((device, CertificateSource::Store)));
    let verdict = Verdict::Good;
    drt.handle(now(5), Input::LeaseChecked { device, verdict });
    assert_eq!(drt.mobile_infos().len(), 1);
}

#[test]
fn a_missing_certificate_is_asked_of_who_gave_the_lease_then_looked_for_in_the_network() {
    let mut drt = in_group(98);
    connect(&mut drt, dev(0x10), account(1));
    let answer = Message::found(Found {
        infos: vec![MobileInfo {
            id: dev(0x80),
            lease: Some(lease(dev(0x80), BOB)),
        }],
        ..Found::default()
    });
    let outputs = hear(&mut drt, dev(0x10), answer);
    assert_eq!(check(&outputs), Some((dev(0x80), CertificateSource::Store)));
    let (device, verdict) = (dev(0x80), Verdict::NoCertificate);
    drt.handle(now(4), Input::LeaseChecked { device, verdict });
    let asked = sent(&drain(&mut drt));
    assert_eq!(asked[0].1.certificates_wanted, Some(vec![device]));
    // Silence for ten seconds.
    drt.handle(now(14), Input::Timeout);
    let outputs = drain(&mut drt);
    assert_eq!(check(&outputs), Some((device, CertificateSource::Network)));
    drt.handle(now(15), Input::LeaseChecked { device, verdict });
    assert!(drt.mobile_infos().is_empty() && drt.mobiles.timeout(now(15)).is_none());
    // An answer that nobody asked for is nothing.
    let answer = Message {
        certificates: Some(vec![vec![0x30, 0]]),
        ..Message::new()
    };
    assert!(check(&hear(&mut drt, dev(0x10), answer)).is_none());
}

#[test]
fn certificates_are_given_only_for_what_was_advertised() {
    let mut drt = in_group(98);
    connect(&mut drt, dev(0x10), account(1));
    let wanted = |n| Message {
        certificates_wanted: Some(vec![dev(n)]),
        ..Message::new()
    };
    assert!(hear(&mut drt, dev(0x10), wanted(0x80)).is_empty());
    assert!(hear(&mut drt, dev(0x10), wanted(0x10)).is_empty());
    let infos = vec![MobileInfo {
        id: dev(0x80),
        lease: Some(lease(dev(0x80), BOB)),
    }];
    drt.handle(now(4), Input::Restored(infos));
    let (device, verdict) = (dev(0x80), Verdict::Good);
    drt.handle(now(5), Input::LeaseChecked { device, verdict });
    drain(&mut drt);
    assert_eq!(
        hear(&mut drt, dev(0x10), wanted(0x80)),
        [Output::GiveCertificates {
            to: dev(0x10),
            devices: vec![device]
        }]
    );
    drt.handle(
        now(6),
        Input::Certificates {
            to: dev(0x10),
            certificates: vec![vec![7]],
        },
    );
    assert_eq!(
        sent(&drain(&mut drt))[0].1.certificates,
        Some(vec![vec![7]])
    );
}

#[test]
fn pending_and_known_leases_are_bounded() {
    let mut drt = in_group(98);
    let info = |n: u16| {
        let mut id = [7; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        MobileInfo {
            id: DeviceId(id),
            lease: Some(lease(DeviceId(id), BOB)),
        }
    };
    for round in 0..10 {
        let infos = (0..MAX_INFOS as u16)
            .map(|n| info(round * 1000 + n))
            .collect();
        drt.handle(now(4), Input::Restored(infos));
        let checks: Vec<DeviceId> = drain(&mut drt)
            .iter()
            .filter_map(|o| check(core::slice::from_ref(o)).map(|c| c.0))
            .collect();
        assert_eq!(checks.len(), super::super::MAX_PENDING);
        for device in checks {
            let verdict = Verdict::Good;
            drt.handle(now(5), Input::LeaseChecked { device, verdict });
        }
    }
    assert_eq!(drt.mobile_infos().len(), MAX_INFOS);
}

#[test]
fn old_mobile_devices_are_believed_until_the_day() {
    let old = Message {
        version: 1,
        is_mobile: true,
        ..Message::default()
    };
    let mut drt = in_group(98);
    connect(&mut drt, dev(0x80), BOB);
    hear(&mut drt, dev(0x80), old.clone());
    assert!(drt.is_online() && drt.mobile_infos().is_empty());
    let mut drt = in_group(98);
    connect(&mut drt, dev(0x80), BOB);
    let before = Now {
        clock: Duration::from_secs(3),
        unix: LEGACY_MOBILE_UNTIL - 1000,
    };
    let message = Box::new(old);
    let from = dev(0x80);
    drt.handle(before, Input::Message { from, message });
    assert!(!drt.is_online() && drt.mobile_infos().len() == 1);
    drt.handle(now(4), Input::Timeout);
    assert!(drt.is_online() && drt.mobile_infos().is_empty());
}

/// A chain of a real daemon, and a lease signed with a key that says yes to everything.
#[test]
fn a_chain_travels_packed_and_a_lease_lists_its_signatures() {
    let pem = include_bytes!("../../../tests/data/identity/daemon/ann-chain.pem");
    let chain = CertificateChain::from_pem(pem).unwrap();
    let packed = super::super::pack_chain(&chain);
    let again = super::super::unpack_chain(&packed).unwrap();
    assert_eq!(again, chain);
    for cut in [0, 1, 3, 100, packed.len() - 1] {
        assert!(super::super::unpack_chain(&packed[..cut]).is_err());
    }
    let at = chain.device.not_before() + 1000;
    let mut lease = Lease {
        issued: at,
        expires: at + 1000,
        ..lease(chain.device_id(), chain.account_id())
    };
    let checks = lease.checks(&chain, at).unwrap();
    let last = checks.last().unwrap();
    assert_eq!(checks.len(), chain.checks().unwrap().len() + 1);
    assert_eq!(
        (&last.key, last.algorithm, &last.message),
        (
            &chain.device.spki(),
            SignatureAlgorithm::RsaPkcs1Sha512,
            &lease.payload()
        )
    );
    lease.issuer = BOB;
    assert_eq!(
        lease.checks(&chain, at),
        Err(super::super::LeaseFault::OtherCertificate)
    );
    lease.issuer = chain.account_id();
    lease.issued = chain.device.not_after() - 10;
    lease.expires = lease.issued + 1000;
    assert_eq!(
        lease.checks(&chain, lease.issued),
        Err(super::super::LeaseFault::OutlastsCertificate)
    );
}

/// The payload as msgpack-c writes it in the reference.
#[test]
fn what_a_lease_signs_has_one_form() {
    let lease = Lease {
        issued: 1_793_491_200,
        expires: 1_793_491_201,
        ..lease(dev(0xab), BOB)
    };
    let expected = format!(
        "97{}01d928{}c414{}d940{}ce6ae68100ce6ae68101",
        "aa4452542d4d4f42494c45",
        hex::encode(CONVERSATION.to_hex()),
        BOB.to_hex(),
        hex::encode(dev(0xab).to_hex()),
    );
    assert_eq!(hex::encode(lease.payload()), expected);
}

// --- many engines ---

/// Most neighbours that anybody may have, in a group of so many: twice what it has on average.
fn bound(devices: usize) -> usize {
    let log = usize::try_from(devices.ilog2()).unwrap();
    6 * log + 10
}

fn mean(mesh: &Mesh) -> f64 {
    let degrees = mesh.degrees();
    degrees.iter().sum::<usize>() as f64 / degrees.len() as f64
}

/// Comes together, keeps few connections, and heals. Gives the messages of each device in the
/// first ten minutes.
fn whole_life(seed: u64, devices: usize) -> f64 {
    let mut mesh = Mesh::new(seed, devices);
    mesh.start_all(Duration::from_secs(60));
    mesh.run(Duration::from_secs(540));
    assert_eq!(mesh.parts(), [devices], "seed {seed}");
    let per_device = mesh.counts.messages as f64 / devices as f64;
    let most = *mesh.degrees().iter().max().unwrap();
    eprintln!(
        "{devices} devices: {:.1} neighbours each, {most} at most, {} steps, {per_device:.1} messages each, {:?}",
        mean(&mesh),
        mesh.steps_from(0),
        mesh.counts
    );
    assert!(most <= bound(devices), "seed {seed}: {most}");
    // Three in ten vanish at once.
    for n in (0..devices).step_by(10).chain((3..devices).step_by(5)) {
        mesh.kill(n);
    }
    let left = mesh.alive().len();
    assert!(left <= devices * 7 / 10 + 1);
    let healed = mesh.run_until_whole(Duration::from_secs(120));
    assert!(healed.is_some(), "seed {seed}: {:?}", mesh.parts());
    mesh.run(Duration::from_secs(if devices > 500 { 60 } else { 1200 }));
    assert_eq!(mesh.parts(), [left], "seed {seed}");
    let most = *mesh.degrees().iter().max().unwrap();
    assert!(most <= bound(devices), "seed {seed}: {most}");
    eprintln!(
        "  after the loss: whole in {healed:?}, {:.1} neighbours each, {most} at most",
        mean(&mesh)
    );
    per_device
}

#[test]
fn ten_devices_live_together() {
    for seed in 0..20 {
        whole_life(seed, 10);
    }
}

#[test]
fn a_hundred_devices_live_together_with_few_connections() {
    for seed in 0..5 {
        whole_life(seed, 100);
    }
}

#[test]
fn a_thousand_devices_take_little_more_each_than_a_hundred() {
    let small = whole_life(1, 100);
    let large = whole_life(1, 1000);
    assert!(large < 3.0 * small, "{small} {large}");
}

/// What grows with the logarithm for a thousand still does for ten thousand. Minutes without
/// optimisation.
#[test]
#[ignore = "takes minutes: cargo test --release -p starling-core --lib drt -- --ignored"]
fn ten_thousand_devices_live_together() {
    whole_life(1, 10_000);
}

#[test]
fn six_people_with_two_devices_each_are_all_connected() {
    let mut mesh = Mesh::with_devices(3, 6, 2);
    mesh.start_all(Duration::from_secs(5));
    mesh.run(Duration::from_secs(60));
    assert_eq!(mesh.degrees(), [11; 12]);
}

#[test]
fn two_halves_that_lost_each_other_find_each_other_again() {
    for seed in 0..3 {
        let mut mesh = Mesh::new(seed, 60);
        mesh.start_all(Duration::from_secs(30));
        mesh.run(Duration::from_secs(300));
        mesh.part(|n| n % 2 == 0);
        // Long enough that either side forgets the other.
        mesh.run(Duration::from_secs(7200));
        assert_eq!(mesh.parts(), [30, 30], "seed {seed}");
        mesh.heal();
        let whole = mesh.run_until_whole(Duration::from_secs(900));
        assert!(whole.is_some(), "seed {seed}: {:?}", mesh.parts());
        let most = *mesh.degrees().iter().max().unwrap();
        assert!(most <= bound(60), "seed {seed}: {most}");
    }
}

#[test]
fn who_comes_alone_waits_and_who_comes_last_gets_in() {
    let mut mesh = Mesh::new(4, 300);
    mesh.start(0);
    mesh.run(Duration::from_secs(3600));
    assert!(!mesh.drt(0).is_online());
    // Of three hundred members only two are there.
    mesh.start(150);
    let met = mesh.run_until_whole(Duration::from_secs(7200));
    assert!(met.is_some());
}

#[test]
fn who_is_thrown_out_has_no_neighbour_left() {
    let mut mesh = Mesh::new(4, 50);
    mesh.start_all(Duration::from_secs(30));
    mesh.run(Duration::from_secs(120));
    let mut accounts: BTreeSet<AccountId> = (0..50).map(|n| mesh.account(n)).collect();
    accounts.remove(&mesh.account(20));
    mesh.set_members(&accounts);
    mesh.run(Duration::from_secs(600));
    assert_eq!(mesh.parts(), [49, 1]);
}

#[test]
fn the_seed_decides_everything() {
    let life = || {
        let mut mesh = Mesh::new(11, 40);
        mesh.start_all(Duration::from_secs(20));
        mesh.run(Duration::from_secs(900));
        (mesh.counts, mesh.degrees())
    };
    assert_eq!(life(), life());
}

proptest! {
    /// Whatever a neighbour says: no panic, bounded tables, and no timeout that has passed.
    #[test]
    fn nothing_a_neighbour_says_breaks_the_engine(
        inputs in proptest::collection::vec((0u8..4, any::<[u8; 4]>(), 0u64..400), 1..60),
    ) {
        let mut drt = in_group(30);
        let mut at = 10;
        for n in 1..4 {
            connect(&mut drt, dev(n), account(u16::from(n)));
        }
        for (kind, bytes, wait) in inputs {
            at += wait;
            let mut id = [bytes[0]; 32];
            id[31] = bytes[1];
            let id = DeviceId(id);
            let message = match kind {
                0 => Message::find(id),
                1 => Message::found(Found { nodes: vec![id, dev(bytes[2])], mobile: vec![id],
                    infos: vec![MobileInfo { id, lease: Some(lease(id, BOB)) }] }),
                2 => Message { certificates_wanted: Some(vec![id]), ..Message::new() },
                _ => Message { certificates: Some(vec![bytes.to_vec()]), version: 1,
                    is_mobile: bytes[3] % 2 == 0, ..Message::new() },
            };
            let from = dev(1 + bytes[3] % 3);
            drt.handle(now(at), Input::Message { from, message: Box::new(message) });
            for output in drain(&mut drt) {
                if let Output::Connect(device) = output {
                    drt.handle(now(at), Input::Failed { device, not_before: now(at + 5).clock });
                }
            }
            prop_assert!(drt.poll_timeout().is_none_or(|t| t > now(at).clock));
            prop_assert!(drt.table.nodes.len() < 2000);
        }
    }
}
