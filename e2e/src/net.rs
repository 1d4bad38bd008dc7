//! Hosts on a private network: one network namespace each, joined by a bridge
//! in a namespace of its own. Nothing in it reaches the outside.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A private network and what runs in it. Dropping it ends everything.
pub struct Lab {
    prefix: String,
    dir: tempfile::TempDir,
    /// The first three bytes of its addresses.
    network: [u8; 3],
    hosts: u8,
    running: Vec<Child>,
}

/// One machine of the lab.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name in the story.
    pub name: String,
    /// The network namespace.
    pub ns: String,
    /// Its address.
    pub addr: Ipv4Addr,
    /// The switch's end of its cable.
    port: String,
    /// A directory of its own.
    pub dir: PathBuf,
}

/// Where the lab's first node listens: the port that OpenDHT's tools take.
pub(crate) const NODE_PORT: &str = "4222";

static LABS: AtomicU32 = AtomicU32::new(0);

/// Where a program is, by PATH.
pub fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|d| d.join(program))
        .find(|p| p.is_file())
}

fn ip(args: &[&str]) {
    let out = Command::new("ip").args(args).output().expect("ip runs");
    assert!(
        out.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr)
    );
}

impl Lab {
    /// An empty network, with addresses as in a house.
    pub fn new() -> Self {
        Self::with([10, 77, 0])
    }

    /// One with addresses as everybody reaches them (those of RFC 5737, which nobody has).
    pub fn public() -> Self {
        Self::with([203, 0, 113])
    }

    fn with(network: [u8; 3]) -> Self {
        // Interface names have at most 15 characters: keep the prefix short, and unique on this machine.
        let prefix = format!(
            "s{:x}x{:x}",
            std::process::id(),
            LABS.fetch_add(1, Ordering::Relaxed)
        );
        let lab = Self {
            dir: tempfile::Builder::new()
                .prefix("starling-lab-")
                .tempdir()
                .expect("a temporary directory"),
            prefix,
            network,
            hosts: 0,
            running: Vec::new(),
        };
        let switch = lab.switch();
        ip(&["netns", "add", &switch]);
        ip(&[
            "-n",
            &switch,
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "forward_delay",
            "0",
        ]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        lab
    }

    fn switch(&self) -> String {
        format!("{}sw", self.prefix)
    }

    /// A directory that lives as long as the lab.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// One more machine, wired to the others.
    pub fn host(&mut self, name: &str) -> Host {
        self.hosts += 1;
        let n = self.hosts;
        let ns = format!("{}h{n}", self.prefix);
        let (inside, outside) = (
            format!("{}i{n}", self.prefix),
            format!("{}o{n}", self.prefix),
        );
        let switch = self.switch();
        ip(&["netns", "add", &ns]);
        ip(&[
            "-n", &switch, "link", "add", &outside, "type", "veth", "peer", "name", &inside,
        ]);
        ip(&[
            "-n", &switch, "link", "set", &inside, "netns", &ns, "name", "eth0",
        ]);
        ip(&[
            "-n", &switch, "link", "set", &outside, "master", "br0", "up",
        ]);
        let addr = {
            let [a, b, c] = self.network;
            Ipv4Addr::new(a, b, c, n)
        };
        // The reference's network code hangs on IPv6 in some kernels; the lab is IPv4.
        let off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6";
        let done = Command::new("ip")
            .args(["netns", "exec", &ns, "sh", "-c", off])
            .output()
            .expect("sh runs");
        assert!(done.status.success());
        ip(&[
            "-n",
            &ns,
            "addr",
            "add",
            &format!("{addr}/24"),
            "dev",
            "eth0",
        ]);
        ip(&["-n", &ns, "link", "set", "eth0", "up"]);
        ip(&["-n", &ns, "link", "set", "lo", "up"]);
        // Everything else is unreachable at once instead of after a timeout.
        ip(&["-n", &ns, "route", "add", "unreachable", "default"]);
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).expect("a directory for the host");
        Host {
            name: name.into(),
            ns,
            addr,
            port: outside,
            dir,
        }
    }

    /// Cuts the network in two: these machines reach each other, and all others each other.
    pub fn split(&self, apart: &[&Host]) {
        let switch = self.switch();
        ip(&[
            "-n",
            &switch,
            "link",
            "add",
            "br1",
            "type",
            "bridge",
            "forward_delay",
            "0",
        ]);
        ip(&["-n", &switch, "link", "set", "br1", "up"]);
        for host in apart {
            ip(&["-n", &switch, "link", "set", &host.port, "master", "br1"]);
        }
    }

    /// Makes it whole again.
    pub fn join(&self) {
        let switch = self.switch();
        for n in 1..=self.hosts {
            let port = format!("{}o{n}", self.prefix);
            ip(&["-n", &switch, "link", "set", &port, "master", "br0"]);
        }
        ip(&["-n", &switch, "link", "del", "br1"]);
    }

    /// Keeps a process until the lab ends.
    pub fn keep(&mut self, child: Child) {
        self.running.push(child);
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::env::var_os("STARLING_E2E_KEEP").is_some() || std::thread::panicking() {
            let kept = std::env::temp_dir()
                .join("starling-e2e-failed")
                .join(&self.prefix);
            let _ = std::fs::create_dir_all(kept.parent().expect("has a parent"));
            let _ = Command::new("cp")
                .arg("-a")
                .arg(self.dir.path())
                .arg(&kept)
                .status();
            eprintln!("the lab's files are kept in {}", kept.display());
        }
        for n in (1..=self.hosts)
            .map(|n| format!("{}h{n}", self.prefix))
            .chain([self.switch()])
        {
            let pids = Command::new("ip").args(["netns", "pids", &n]).output();
            for pid in pids.iter().flat_map(|o| {
                String::from_utf8_lossy(&o.stdout)
                    .lines()
                    .map(String::from)
                    .collect::<Vec<_>>()
            }) {
                let _ = Command::new("kill")
                    .args(["-9", &pid])
                    .stderr(Stdio::null())
                    .status();
            }
            let _ = Command::new("ip")
                .args(["netns", "del", &n])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Host {
    /// Its address as that of a DHT node to begin with, as programs are given it.
    pub fn as_node(&self) -> String {
        format!("{}:{NODE_PORT}", self.addr)
    }

    /// A command that runs on this machine.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut c = Command::new("ip");
        c.args(["netns", "exec", &self.ns]).arg(program);
        c.stdin(Stdio::null())
            .env("HOME", &self.dir)
            .env_remove("XDG_CACHE_HOME")
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME");
        c
    }

    /// A TCP connection to a port on this machine's loopback. A socket stays in
    /// the network namespace it was made in, so a thread goes there to make it.
    pub fn connect(&self, port: u16) -> std::io::Result<std::net::TcpStream> {
        let ns = std::fs::File::open(Path::new("/run/netns").join(&self.ns))?;
        std::thread::spawn(move || {
            nix::sched::setns(ns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })
        .join()
        .expect("the thread does not panic")
    }

    /// The machines that a program here has TCP connections with.
    pub fn connected(&self, pid: u32) -> std::collections::BTreeSet<Ipv4Addr> {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
        let lines = table.lines().skip(1).filter_map(|line| {
            let mut words = line.split_whitespace().skip(2);
            let (remote, state) = (words.next()?, words.next()?);
            // Established. The address is a number as this machine keeps it in memory.
            let addr = u32::from_str_radix(remote.split(':').next()?, 16).ok()?;
            (state == "01").then(|| Ipv4Addr::from(addr.to_ne_bytes()))
        });
        lines.filter(|a| !a.is_loopback()).collect()
    }

    /// Cuts the machine off, as pulling the cable does.
    pub fn unplug(&self) {
        ip(&["-n", &self.ns, "link", "set", "eth0", "down"]);
    }

    /// Puts the cable in elsewhere: from then on the machine has this address, and its old one no more.
    pub fn plug_elsewhere(&self, addr: Ipv4Addr) {
        ip(&["-n", &self.ns, "addr", "flush", "dev", "eth0"]);
        let addr = format!("{addr}/24");
        ip(&["-n", &self.ns, "addr", "add", &addr, "dev", "eth0"]);
        self.plug();
    }

    /// Puts the cable back.
    pub fn plug(&self) {
        ip(&["-n", &self.ns, "link", "set", "eth0", "up"]);
        ip(&["-n", &self.ns, "route", "replace", "unreachable", "default"]);
    }
}
