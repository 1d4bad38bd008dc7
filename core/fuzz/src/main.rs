#![no_main]
//! All fuzz targets in one program, because thirty would take a minute each to link.
//! `FUZZ_TARGET` names the one to run; without it, or with a wrong one, the names are listed.

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

/// The modules below `targets/`, each with a function `run`.
macro_rules! targets {
    ($($name:ident)*) => {
        mod targets {
            $(pub(crate) mod $name;)*
        }
        const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), targets::$name::run),)*];
    };
}

targets! {
    account_address
    account_files
    account_sync
    account_trust_request
    account_vcard
    api_frame
    api_objects
    dht_node
    dht_packet
    dht_state
    dht_value
    drt_engine
    drt_message
    git_commit
    git_fetch
    git_pack
    git_pktline
    git_serve
    git_tree
    identity_archive
    identity_certificate
    identity_chain
    identity_receipt
    identity_revocation_list
    notice_frame
    peer_framing
    peer_ice
    peer_mux
    peer_request
    peer_stun
    peer_text
    swarm_commit
    swarm_message
    swarm_public
    swarm_tree
    swarm_vcard
}

static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();

fn choose() {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some((_, run)) = TARGETS.iter().find(|(name, _)| *name == wanted) else {
        for (name, _) in TARGETS {
            println!("{name}");
        }
        std::process::exit(2);
    };
    let _ = CHOSEN.set(*run);
}

fuzz_target!(
    init: choose(),
    |data: &[u8]| {
        if let Some(run) = CHOSEN.get() {
            run(data);
        }
    }
);
