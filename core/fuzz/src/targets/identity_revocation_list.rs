use starling_core::identity::RevocationList;

pub(crate) fn run(data: &[u8]) {
    let _ = RevocationList::from_der(data);
}
