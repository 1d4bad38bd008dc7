use starling_core::identity::{Archive, Credential};

pub(crate) fn run(data: &[u8]) {
    let _ = Archive::read(data, &Credential::None, &super::dht_node::Lenient);
    if let Ok(archive) = Archive::from_json(data) {
        let json = archive.to_json(false);
        let again = Archive::from_json(&json).map(|a| a.to_json(false));
        assert_eq!(again.as_deref().map(|j| j.as_slice()), Ok(json.as_slice()));
    }
}
