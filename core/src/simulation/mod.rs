//! A whole group in one process: hundreds of members with their devices, who write, invite, leave,
//! ban and fall out with each other, over a network that delays, loses and parts, on machines that
//! crash at any write, with clocks that are wrong by days, and with hostile members among them.
//!
//! Everything that decides is what the bridge runs: [`crate::swarm::write`] makes the commits,
//! [`crate::swarm::validate`] judges them, [`crate::swarm::spread`] says whom to tell and from whom
//! to fetch. Real are also the objects, byte for byte, and the certificates. Made simple are: the
//! disk and the wire (a fetch takes as long as its bytes, and may break), and signatures, which are
//! hashes (see [`people`]).
//!
//! One seed decides a run. `just simulate --seed N --members M` repeats it and tells what happened.
//!
//! * [`config`]: what a run is made of; [`world`]: time, links, crashes; [`replica`]: one device's
//!   copy; [`acts`]: what people do; [`hostile`]: what some of them do;
//! * [`crowd`]: groups of thousands, with the engines alone;
//! * [`checks`]: what must hold; [`tests`]: that it does, and that each check can fail.

mod acts;
mod checks;
mod config;
mod crowd;
mod hostile;
mod people;
mod pool;
mod replica;
mod rng;
mod tests;
mod world;
