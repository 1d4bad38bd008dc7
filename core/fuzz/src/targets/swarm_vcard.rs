use starling_core::swarm::members::Profile;

pub(crate) fn run(data: &[u8]) {
    // Once written by us, a profile stays as it is.
    let ours = Profile::parse(Profile::parse(data).to_vcard().as_bytes());
    assert_eq!(Profile::parse(ours.to_vcard().as_bytes()), ours);
}
