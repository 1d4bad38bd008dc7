use starling_core::swarm::object::{Kind, MemoryObjects};
use starling_core::swarm::tree::Trees;

pub(crate) fn run(data: &[u8]) {
    // Two trees in one input, split where the first byte says.
    let Some((cut, rest)) = data.split_first() else {
        return;
    };
    let (a, b) = rest.split_at(usize::from(*cut).min(rest.len()));
    let mut objects = MemoryObjects::new();
    let (a, b) = (objects.insert(Kind::Tree, a), objects.insert(Kind::Tree, b));
    let _ = Trees::new(&objects).diff(Some(a), Some(b));
}
