//! Chromium on a machine of the lab, driven through ChromeDriver.

use crate::{Host, Lab, wait};
use fantoccini::elements::{Element, ElementRef};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;

/// The screen of a desktop, in pixels.
pub const DESKTOP: (u32, u32) = (1280, 800);
/// The screen of a phone, in pixels.
pub const PHONE: (u32, u32) = (390, 844);

/// A picture without colours.
pub struct Picture {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Each pixel, row by row from the top: 0 is black.
    pub grey: Vec<u8>,
}

/// One browser window.
pub struct Browser {
    client: Client,
    /// What audits found, and in which view first; see [`Browser::audit`].
    pub(crate) findings: Mutex<BTreeMap<String, String>>,
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
            // Where it makes the profile.
            .env("TMPDIR", &host.dir)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("chromedriver starts");
        lab.keep(child);
        let local = relay(host, port).await;
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
        ];
        args.extend(more.iter().map(|a| (*a).to_owned()));
        let mut options = json!({"args": args});
        if width < 600 {
            let metrics = json!({"width": width, "height": height, "pixelRatio": 2.0});
            options["mobileEmulation"] = json!({"deviceMetrics": metrics});
        }
        // Takes some 70 % of the processor time that the browser with all its windows takes.
        const SHELL: &str = "/usr/lib/chromium/chromium-headless-shell";
        if Path::new(SHELL).exists() {
            options["binary"] = json!(SHELL);
        }
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".into(), options);
        capabilities.insert("goog:loggingPrefs".into(), json!({"browser": "ALL"}));
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
            findings: Mutex::default(),
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
    pub async fn find(&self, css: &str) -> Element {
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

    /// Waits for what a person would call by this name: a `button`, a `textbox`, a `checkbox`, a
    /// `dialog`, an `article` …
    pub async fn named(&self, role: &str, name: &str) -> Element {
        let end = std::time::Instant::now() + wait::PATIENCE;
        loop {
            if let Some(e) = self.try_named(role, name).await {
                return e;
            }
            if std::time::Instant::now() > end {
                self.shot("failed").await;
                panic!("no {role} {name:?} in:\n{}", self.text().await);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// What has this role and accessible name now.
    pub async fn try_named(&self, role: &str, name: &str) -> Option<Element> {
        let found = self
            .client
            .execute(NAMED, vec![json!(role), json!(name)])
            .await
            .unwrap_or_else(|e| panic!("{role} {name:?}: {e}"));
        let id = found.as_object()?.values().next()?.as_str()?.to_owned();
        Some(Element::from_element_id(
            self.client.clone(),
            ElementRef::from(id),
        ))
    }

    /// Waits for a control by its role and name, and clicks it.
    pub async fn press(&self, role: &str, name: &str) {
        let end = std::time::Instant::now() + wait::PATIENCE;
        loop {
            match self.named(role, name).await.click().await {
                Ok(()) => return,
                Err(e) => assert!(
                    std::time::Instant::now() < end,
                    "cannot click {role} {name:?}: {e}"
                ),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Waits for a field by its name and types into it. A line break is the Enter key.
    pub async fn fill(&self, name: &str, text: &str) {
        let text = text.replace('\n', "\u{e007}");
        self.named("textbox", name)
            .await
            .send_keys(&text)
            .await
            .unwrap_or_else(|e| panic!("cannot type into {name:?}: {e}"));
    }

    /// Waits until nothing matches any more.
    pub async fn gone(&self, css: &str) {
        let script = format!("return !document.querySelector({})", json!(css));
        self.until(&format!("{css} to go"), &script).await;
    }

    /// Waits until a script gives a value that is neither null nor false.
    pub async fn until(&self, what: &str, script: &str) -> Value {
        let end = std::time::Instant::now() + wait::PATIENCE;
        loop {
            let v = self.run(script).await;
            if !v.is_null() && v != false {
                return v;
            }
            if std::time::Instant::now() > end {
                self.shot("failed").await;
                panic!("waited for {what}, but:\n{}", self.text().await);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Gives a file field a picture of 640 by 480 pixels, as if the person had picked one: two colours and a disc.
    pub async fn give_picture(&self, css: &str, colours: [&str; 3]) {
        let script = format!(
            "const [sky, ground, disc] = {}; const c = document.createElement('canvas'); c.width = 640; c.height = 480; const x = c.getContext('2d'); \
             x.fillStyle = sky; x.fillRect(0, 0, 640, 480); x.fillStyle = ground; x.fillRect(0, 330, 640, 150); \
             x.fillStyle = disc; x.beginPath(); x.arc(360, 190, 90, 0, 7); x.fill(); \
             c.toBlob(b => {{ const files = new DataTransfer(); files.items.add(new File([b], 'picture.png', {{ type: 'image/png' }})); \
             const field = document.querySelector({}); field.files = files.files; field.dispatchEvent(new Event('change', {{ bubbles: true }})); }}, 'image/png')",
            json!(colours),
            json!(css)
        );
        self.find(css).await;
        self.run(&script).await;
    }

    /// Presses a key where the focus is, as `KeyboardEvent.key` calls it; `Ctrl+`, `Shift+` and `Alt+` before it.
    pub async fn key(&self, key: &str) {
        let modifiers = if key.contains("Ctrl+") { 2 } else { 0 }
            + if key.contains("Shift+") { 8 } else { 0 }
            + if key.contains("Alt+") { 1 } else { 0 };
        let name = key
            .trim_start_matches("Ctrl+")
            .trim_start_matches("Shift+")
            .trim_start_matches("Alt+");
        let mut params = json!({"type": "keyDown", "key": name, "modifiers": modifiers});
        if name == "Escape" {
            // What the browser itself does with it goes by this number.
            params["windowsVirtualKeyCode"] = json!(27);
        }
        if name.chars().count() == 1 && modifiers & 2 == 0 {
            params["text"] = json!(name);
        }
        self.devtools("Input.dispatchKeyEvent", params.clone())
            .await;
        params["type"] = json!("keyUp");
        self.devtools("Input.dispatchKeyEvent", params).await;
    }

    /// Moves the pointer over the first element that matches.
    pub async fn hover(&self, css: &str) {
        let place = self
            .until(
                &format!("a place of {css}"),
                &format!(
                    "const e = document.querySelector({}); if (!e) return null; const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]",
                    json!(css)
                ),
            )
            .await;
        self.devtools(
            "Input.dispatchMouseEvent",
            json!({"type": "mouseMoved", "x": place[0], "y": place[1]}),
        )
        .await;
    }

    /// The text of every element that matches, in document order.
    pub async fn texts(&self, css: &str) -> Vec<String> {
        let script = format!(
            "return [...document.querySelectorAll({})].map(e => e.innerText.trim())",
            json!(css)
        );
        let all = self.run(&script).await;
        let all = all.as_array().cloned().unwrap_or_default();
        all.iter()
            .map(|t| t.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// What the console got of errors and warnings since the last call.
    pub async fn complaints(&self) -> Vec<String> {
        let answer = self
            .client
            .issue_cmd(Further {
                path: "se/log",
                body: json!({"type": "browser"}),
            })
            .await
            .unwrap_or_else(|e| panic!("no console: {e}"));
        let all = answer.as_array().cloned().unwrap_or_default();
        all.iter()
            .filter(|e| e["level"] == "SEVERE" || e["level"] == "WARNING")
            .map(|e| {
                format!(
                    "{}: {}",
                    e["level"].as_str().unwrap_or_default(),
                    e["message"].as_str().unwrap_or_default()
                )
            })
            .collect()
    }

    /// A command of the browser's developer tools.
    pub async fn devtools(&self, command: &str, params: Value) -> Value {
        self.client
            .issue_cmd(Further {
                path: "goog/cdp/execute",
                body: json!({"cmd": command, "params": params}),
            })
            .await
            .unwrap_or_else(|e| panic!("{command}: {e}"))
    }

    /// Makes the page believe in a screen of this size, and in what its person prefers
    /// (`prefers-color-scheme`, `prefers-contrast`, …).
    pub async fn screen(&self, width: u32, height: u32, prefers: &[(&str, &str)]) {
        let phone = width < 600;
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 }, "mobile": phone}),
        )
        .await;
        let features: Vec<Value> = prefers
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.client.refresh().await.expect("the page loads again");
    }

    /// What is seen at the first element that matches, without colours.
    pub async fn picture(&self, css: &str) -> Picture {
        let element = self.find(css).await;
        let png = element.screenshot().await.expect("a picture");
        // The browser unpacks its own picture.
        let script = "const picture = await createImageBitmap(new Blob([Uint8Array.from(bytes)], { type: 'image/png' })); \
            const { width, height } = picture; const canvas = new OffscreenCanvas(width, height).getContext('2d'); \
            canvas.drawImage(picture, 0, 0); const { data } = canvas.getImageData(0, 0, width, height); const grey = []; \
            for (let i = 0; i < data.length; i += 4) grey.push(Math.round((data[i] + data[i + 1] + data[i + 2]) / 3)); \
            return { width, height, grey };";
        let script = format!("return (async (bytes) => {{ {script} }})(...arguments)");
        let picture = self.client.execute(&script, vec![json!(png)]).await;
        let picture = picture.expect("the browser reads its own picture");
        let number = |v: &serde_json::Value| v.as_u64().expect("a number");
        let side = |key: &str| usize::try_from(number(&picture[key])).expect("a few pixels");
        let grey = picture["grey"].as_array().expect("pixels").iter();
        Picture {
            width: side("width"),
            height: side("height"),
            grey: grey
                .map(|v| u8::try_from(number(v)).expect("a byte"))
                .collect(),
        }
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

    /// Waits until what changed is on the screen and moves no more.
    pub async fn painted(&self) {
        self.run("window.stillSince = null; requestAnimationFrame(() => requestAnimationFrame(() => { window.stillSince = 1; }))").await;
        self.until(
            "the page to stand still",
            "return window.stillSince && document.getAnimations().every(a => a.playState !== 'running' || a.effect.getComputedTiming().iterations === Infinity)",
        )
        .await;
    }

    /// Waits until a bubble says exactly this.
    pub async fn bubble(&self, text: &str) {
        let script = format!(
            "return [...document.querySelectorAll('[data-testid=message] [data-testid=bubble]')].some(e => e.innerText.trim() === {})",
            json!(text)
        );
        self.until(&format!("the bubble {text:?}"), &script).await;
    }

    /// Keeps pictures of the page on a desktop and a phone, light and dark, and audits each.
    pub async fn shoot(&self, name: &str) {
        for (device, (width, height)) in [("desktop", DESKTOP), ("phone", PHONE)] {
            for look in ["light", "dark"] {
                self.screen(width, height, &[("prefers-color-scheme", look)])
                    .await;
                self.painted().await;
                let view = format!("{name}-{device}-{look}");
                self.shot(&view).await;
                // What axe-core looks at is the same in light and dark.
                self.audit(&view, look == "light").await;
            }
        }
        self.screen(DESKTOP.0, DESKTOP.1, &[]).await;
    }

    /// Ends the browser. Panics if an audit of what it showed found anything.
    pub async fn close(self) {
        let _ = self.client.close().await;
        let found = self.findings.into_inner().expect("no audit panicked");
        assert!(found.is_empty(), "the audit found: {found:#?}");
    }
}

// The names as screen readers compute them, for what a page of ours consists of. While a modal
// dialog is open, nothing else can be used.
const NAMED: &str = r#"
const [role, name] = arguments;
const css = {
  button: 'button, [role=button]', textbox: 'input:not([type]), input[type=text], input[type=search], input[type=password], textarea',
  listitem: 'li', note: '[role=note]',
  checkbox: 'input[type=checkbox]', radio: 'input[type=radio]', dialog: 'dialog[open]', combobox: 'select, [role=combobox]',
  option: '[role=option]', article: 'article', main: 'main', heading: 'h1, h2, h3', link: 'a',
}[role] ?? `[role=${role}]`;
const words = t => (t ?? '').replace(/\s+/g, ' ').trim();
const nameOf = e => {
  const label = words(e.getAttribute('aria-label'));
  if (label) return label;
  if (e.labels?.length) return words([...e.labels].map(l => l.innerText).join(' '));
  return words(e.innerText) || words(e.getAttribute('title'));
};
const modal = document.querySelector('dialog:modal');
const all = [...(modal && role !== 'dialog' ? modal : document).querySelectorAll(css)];
return all.find(e => e.checkVisibility({ visibilityProperty: true }) && !e.disabled && nameOf(e) === name) ?? null;
"#;

/// A command of ChromeDriver that is not in the standard.
#[derive(Debug)]
struct Further {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Further {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
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
