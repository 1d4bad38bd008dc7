//! That everything holds, over many seeds, and that each check can fail.

use super::checks::{Check, check};
use super::config::{Broken, Config};
use super::world::World;
use crate::swarm::spread::Mutation;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn run(config: Config) -> (World, Vec<(Check, String)>) {
    let mut world = World::new(config);
    world.run();
    let faults = check(&world);
    (world, faults)
}

/// So many seeds, on all cores; says which failed, and how.
fn seeds(from: u64, count: u64, accounts: Option<usize>) {
    let next = AtomicU64::new(from);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let began = Instant::now();
    let failed: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= from + count {
                            return failed;
                        }
                        let (_, faults) = run(Config::of(seed, accounts));
                        for (check, text) in faults {
                            let members =
                                accounts.map_or(String::new(), |n| format!(" --members {n}"));
                            failed.push(format!(
                                "just simulate --seed {seed}{members}: {check:?}: {text}"
                            ));
                        }
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().expect("a run that panics"))
            .collect()
    });
    println!("{count} seeds in {:.1} s", began.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn whatever_happens_all_agree() {
    seeds(0, 500, None);
}

/// Repeats the run of `SIM_SEED` (0) with `SIM_MEMBERS` accounts and tells what happens.
#[test]
#[ignore = "a tool: `just simulate --seed N --members M`"]
fn simulate() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seed = number("SIM_SEED").unwrap_or(0);
    let accounts = number("SIM_MEMBERS").and_then(|n| usize::try_from(n).ok());
    let began = Instant::now();
    let (world, faults) = run(Config {
        loud: number("SIM_QUIET").is_none(),
        ..Config::of(seed, accounts)
    });
    println!("{:?}", world.config);
    println!("{:?}", world.counts);
    println!(
        "{} devices, {} commits of honest ones, {:.2} s",
        world.devs.len(),
        world.ledger.len(),
        began.elapsed().as_secs_f64()
    );
    for (check, text) in &faults {
        println!("{check:?}: {text}");
    }
    assert!(faults.is_empty());
}
