pub(crate) fn run(data: &[u8]) {
    let _ = starling_core::swarm::commit::Commit::parse(data);
}
