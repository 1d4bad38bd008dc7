#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = starling_core::swarm::commit::Commit::parse(data);
});
