//! Chromium on a machine of the lab, driven through ChromeDriver.

use crate::{Host, Lab, wait};
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::json;
use std::path::PathBuf;
use std::process::Stdio;

/// One browser window.
pub struct Browser {
    client: Client,
    /// Where screenshots go.
    pub shots: PathBuf,
}

/// Why no browser can run here, or `None`.
pub fn missing() -> Option<String> {
    crate::missing().or_else(|| {
        ["chromium", "chromedriver"]
            .into_iter()
            .find(|t| crate::net::which(t).is_none())
            .map(|t| format!("{t} is not installed"))
    })
}

/// Where screenshots are kept: an artefact of a test run.
pub fn shots_dir() -> PathBuf {
    let dir = std::env::var_os("STARLING_SHOTS")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../target/screenshots"
            ))
        });
    std::fs::create_dir_all(&dir).expect("a directory for screenshots");
    dir
}

impl Browser {
    /// A fresh browser on a machine, with nothing stored.
    pub async fn open(lab: &mut Lab, host: &Host) -> Self {
        Self::open_with(lab, host, 1280, 800, &[]).await
    }

    /// A fresh browser with a window size and further arguments.
    pub async fn open_with(
        lab: &mut Lab,
        host: &Host,
        width: u32,
        height: u32,
        more: &[&str],
    ) -> Self {
        // ChromeDriver listens inside the namespace; a relay brings it here.
        let port = 9515;
        let log = std::fs::File::create(host.dir.join("chromedriver.log")).expect("a log");
        let child = host
            .command("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("chromedriver starts");
        lab.keep(child);
        let local = relay(host, port).await;
        let profile = host.dir.join(format!("chromium-{width}"));
        let mut args = vec![
            "--headless".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-quic".into(),
            "--no-first-run".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            "--disable-dev-shm-usage".into(),
            "--hide-scrollbars".into(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.display()),
        ];
        args.extend(more.iter().map(|a| (*a).to_owned()));
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".into(), json!({"args": args, "mobileEmulation": if width < 600 { json!({"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2.0}}) } else { json!(null) }}));
        if width >= 600 {
            capabilities.insert("goog:chromeOptions".into(), json!({"args": args}));
        }
        let url = format!("http://127.0.0.1:{local}");
        let end = std::time::Instant::now() + wait::PATIENCE;
        let client = loop {
            match ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
                .capabilities(capabilities.clone())
                .connect(&url)
                .await
            {
                Ok(c) => break c,
                Err(e) => assert!(
                    std::time::Instant::now() < end,
                    "{}: no browser: {e}",
                    host.name
                ),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        Self {
            client,
            shots: shots_dir(),
        }
    }

    /// Loads a page.
    pub async fn go(&self, url: &str) {
        self.client
            .goto(url)
            .await
            .unwrap_or_else(|e| panic!("{url}: {e}"));
    }

    /// Waits for an element.
    pub async fn find(&self, css: &str) -> fantoccini::elements::Element {
        match self
            .client
            .wait()
            .at_most(wait::PATIENCE)
            .for_element(Locator::Css(css))
            .await
        {
            Ok(e) => e,
            Err(e) => {
                self.shot("failed").await;
                panic!("no {css}: {e}\n{}", self.text().await)
            }
        }
    }

    /// Waits for an element and clicks it.
    pub async fn click(&self, css: &str) {
        let end = std::time::Instant::now() + wait::PATIENCE;
        loop {
            // An element that is being replaced may vanish between finding and clicking.
            match self.find(css).await.click().await {
                Ok(()) => return,
                Err(e) => assert!(std::time::Instant::now() < end, "cannot click {css}: {e}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Waits for a field and types into it.
    pub async fn type_into(&self, css: &str, text: &str) {
        self.find(css)
            .await
            .send_keys(text)
            .await
            .unwrap_or_else(|e| panic!("cannot type into {css}: {e}"));
    }

    /// Waits until the page says something.
    pub async fn wait_text(&self, text: &str) {
        let end = std::time::Instant::now() + wait::PATIENCE;
        while !self.text().await.contains(text) {
            if std::time::Instant::now() > end {
                self.shot("failed").await;
                panic!("the page never said {text:?}, but:\n{}", self.text().await);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// All visible text.
    pub async fn text(&self) -> String {
        self.run("return document.body ? document.body.innerText : ''")
            .await
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Runs a script in the page.
    pub async fn run(&self, script: &str) -> serde_json::Value {
        self.client
            .execute(script, vec![])
            .await
            .unwrap_or_else(|e| panic!("{script}: {e}"))
    }

    /// Keeps a picture of the page.
    pub async fn shot(&self, name: &str) {
        match self.client.screenshot().await {
            Ok(png) => {
                std::fs::write(self.shots.join(format!("{name}.png")), png).expect("written")
            }
            Err(e) => eprintln!("no screenshot {name}: {e}"),
        }
    }

    /// Ends the browser.
    pub async fn close(self) {
        let _ = self.client.close().await;
    }
}

/// A port here that leads to a port on the machine.
async fn relay(host: &Host, port: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let local = listener.local_addr().expect("bound").port();
    let host = host.clone();
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let Ok(there) = host.connect(port) else {
                continue;
            };
            tokio::spawn(async move {
                if let Ok(mut there) = tokio::net::TcpStream::from_std(there) {
                    let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                }
            });
        }
    });
    local
}
