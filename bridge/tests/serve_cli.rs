//! The binary as shells, scripts and people meet it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that fails shall say where")]

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn starling() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
    command.env_remove("STARLING_DATA_DIR").stdin(Stdio::null());
    command
}

fn run(args: &[&str], data_dir: &Path) -> Output {
    starling()
        .args(args)
        .arg("--data-dir")
        .arg(data_dir)
        .output()
        .unwrap()
}

fn sentence(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

struct Bridge {
    child: Child,
    ready: Value,
}

impl Bridge {
    fn start(data_dir: &Path) -> Self {
        let mut child = starling()
            .args([
                "--listen",
                "127.0.0.1:0",
                "--bootstrap",
                "none",
                "--no-lan",
                "--print-json",
            ])
            .arg("--data-dir")
            .arg(data_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| {
            let mut log = String::new();
            let _ = child.kill();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut log)
                .unwrap();
            panic!("{line}{log}")
        });
        Self { child, ready }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_bridge_is_found_called_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let none = run(&["rpc", "bridge.info"], &data);
    assert_eq!(none.status.code(), Some(1));
    assert!(sentence(&none).contains("No bridge runs"), "{none:?}");

    let mut bridge = Bridge::start(&data);
    assert_eq!(bridge.ready["pid"], bridge.child.id());
    let url = bridge.ready["url"].as_str().unwrap();
    assert!(
        url.starts_with("http://localhost:") && url.contains("/#pair="),
        "{url}"
    );
    let token_file = bridge.ready["tokenFile"].as_str().unwrap();
    assert_eq!(Path::new(token_file), data.join("admin.token"));

    let info = run(&["rpc", "bridge.info", "{}"], &data);
    assert!(info.status.success(), "{info:?}");
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(
        (&info["name"], &info["role"]),
        (&"starling".into(), &"owner".into())
    );

    let more = run(&["rpc", "pairing.start"], &data);
    assert!(more.status.success(), "{more:?}");
    let kiosk = format!(
        r#"{{"role": "kiosk", "account": "0123456789abcdef", "conversations": ["{}"]}}"#,
        "ab".repeat(20)
    );
    let nobody = run(&["rpc", "pairing.start", &kiosk], &data);
    assert!(sentence(&nobody).contains("(not_found)"), "{nobody:?}");

    let wrong = run(&["rpc", "no.such"], &data);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(wrong.stdout.is_empty() && sentence(&wrong).contains("(unsupported)"));
    let wrong = run(&["rpc", "bridge.info", "{"], &data);
    assert!(sentence(&wrong).contains("no JSON"), "{wrong:?}");

    // What is too long for a frame is not sent, rather than cut off in the middle.
    let mut long = starling()
        .args(["rpc", "message.send", "-", "--data-dir"])
        .arg(&data)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let body = serde_json::json!({"body": "x".repeat(1_200_000)}).to_string();
    long.stdin
        .take()
        .unwrap()
        .write_all(body.as_bytes())
        .unwrap();
    let long = long.wait_with_output().unwrap();
    assert_eq!(long.status.code(), Some(1));
    assert!(sentence(&long).contains("(too_large)"), "{long:?}");

    let pair = run(&["pair"], &data);
    assert!(String::from_utf8(pair.stdout).unwrap().contains("/#pair="));
    let quiet = run(&["events", "--until", "no.such", "--timeout", "0.1"], &data);
    assert_eq!(quiet.status.code(), Some(1));
    let quiet = run(&["events", "--timeout", "0.1"], &data);
    assert_eq!(quiet.status.code(), Some(0), "{quiet:?}");

    let stop = run(&["rpc", "bridge.stop"], &data);
    assert_eq!(stop.stdout, b"null\n");
    assert!(bridge.child.wait().unwrap().success());
    assert!(!data.join("bridge.json").exists());
}

#[test]
fn a_data_directory_that_is_taken_is_named_with_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let bridge = Bridge::start(dir.path());
    let second = run(&["--listen", "127.0.0.1:0"], dir.path());
    assert_eq!(second.status.code(), Some(1));
    let text = sentence(&second);
    assert!(
        text.contains(&format!("process {}", bridge.child.id())),
        "{text}"
    );
    assert!(
        text.contains("bridge.stop") && text.contains("--data-dir"),
        "{text}"
    );
    // Killed: nothing needs to be cleaned up by hand.
    bridge.signal("KILL");
    drop(bridge);
    let none = run(&["rpc", "bridge.info"], dir.path());
    assert!(sentence(&none).contains("No bridge runs"), "{none:?}");
    let next = Bridge::start(dir.path());
    assert!(run(&["rpc", "bridge.info"], dir.path()).status.success());
    drop(next);
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let refused = run(&["serve", "--listen", &addr], dir.path());
    assert_eq!(refused.status.code(), Some(1));
    let text = sentence(&refused);
    assert!(text.contains(&addr) && text.contains("--listen"), "{text}");
    let doctor = run(&["doctor", "--listen", &addr, "--json"], dir.path());
    let found: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let port = found
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["name"] == "port");
    assert_eq!(port.unwrap()["status"], "failed");
    assert_eq!(doctor.status.code(), Some(1));
}

#[test]
fn signals_stop_in_good_order() {
    for name in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let mut bridge = Bridge::start(dir.path());
        bridge.signal(name);
        assert!(bridge.child.wait().unwrap().success(), "{name}");
        assert!(!dir.path().join("bridge.json").exists());
    }
}

#[test]
fn a_node_of_the_dht_runs_alone() {
    let mut child = starling()
        .args(["dhtnode", "--port", "0", "--network", "77"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let bridge = Bridge {
        child,
        ready: Value::Null,
    };
    assert!(line.starts_with("DHT node "), "{line}");
    bridge.signal("TERM");
    let mut bridge = bridge;
    assert!(bridge.child.wait().unwrap().success());
}

#[test]
fn a_history_is_judged_and_what_is_none_is_not() {
    let group = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/swarm/group.bundle");
    let good = starling().args(["verify", group]).output().unwrap();
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(
        String::from_utf8(good.stdout)
            .unwrap()
            .contains("all in order")
    );
    let dir = tempfile::tempdir().unwrap();
    let none = starling().arg("verify").arg(dir.path()).output().unwrap();
    assert_eq!(none.status.code(), Some(2), "{none:?}");
}

#[test]
fn damaged_grants_stop_the_start_and_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("grants.json");
    std::fs::write(&path, "{\"version\":1,\"grants\":[{").unwrap();
    let refused = run(&["--listen", "127.0.0.1:0"], dir.path());
    assert_eq!(refused.status.code(), Some(1));
    let text = sentence(&refused);
    assert!(text.contains("grants.json is damaged"), "{text}");
    assert!(text.contains("paired again"), "{text}");
    let left = std::fs::read_to_string(&path).unwrap();
    assert_eq!(left, "{\"version\":1,\"grants\":[{");
}

#[test]
fn doctor_knows_a_running_bridge() {
    let dir = tempfile::tempdir().unwrap();
    let bridge = Bridge::start(dir.path());
    let doctor = run(&["doctor", "--json"], dir.path());
    let found: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let names: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert!(names.contains(&&"disk space".into()) && names.contains(&&"bridge".into()));
    let text = doctor_text(dir.path());
    assert!(
        text.contains(&format!("process {}", bridge.child.id())),
        "{text}"
    );
}

fn doctor_text(data: &Path) -> String {
    String::from_utf8(run(&["doctor"], data).stdout).unwrap()
}

#[test]
fn a_data_directory_that_cannot_be_one_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "somebody's letter").unwrap();
    for path in [file.clone(), file.join("below")] {
        let refused = run(&["--listen", "127.0.0.1:0"], &path);
        assert_eq!(refused.status.code(), Some(1));
        let text = sentence(&refused);
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(
            text.contains("move it away") && text.contains("--data-dir"),
            "{text}"
        );
        // The system's words are there, and only once.
        assert_eq!(text.matches("os error").count(), 1, "{text}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"somebody's letter");
    // Where nobody may make a directory, not even root.
    let refused = run(&["--listen", "127.0.0.1:0"], Path::new("/proc/starling"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        sentence(&refused).contains("/proc/starling cannot be made"),
        "{refused:?}"
    );
}

#[test]
fn an_address_that_is_not_of_this_machine_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let beyond = ["--listen", "192.0.2.1:7474"];
    for more in [&[][..], &["--public-url", "http://chat.example.org"]] {
        let refused = run(&[&beyond, more].concat(), dir.path());
        assert_eq!(refused.status.code(), Some(1));
        let text = sentence(&refused);
        assert!(text.contains("unencrypted") && text.contains("--public-url"));
    }
    let behind_a_proxy = ["--public-url", "https://chat.example.org"];
    let refused = run(&[&beyond[..], &behind_a_proxy].concat(), dir.path());
    assert_eq!(refused.status.code(), Some(1));
    let text = sentence(&refused);
    assert!(
        text.contains("192.0.2.1:7474 cannot be listened at") && text.contains("--listen"),
        "{text}"
    );
}
