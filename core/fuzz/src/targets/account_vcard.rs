use starling_core::account::VCard;

pub(crate) fn run(data: &[u8]) {
    if let Ok(profile) = VCard::parse(data) {
        let _ = profile.photo();
        assert_eq!(VCard::parse(profile.to_string().as_bytes()), Ok(profile));
    }
}
