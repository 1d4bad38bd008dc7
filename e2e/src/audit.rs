//! Whether everybody can use the page: an audit of what is shown, by own checks and by axe-core's rules.

use crate::Browser;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Names, contrast, sizes, headings, landmarks, language, live regions, motion.
const OWN: &str = include_str!("audit.js");
/// What has the focus.
const FOCUS: &str = include_str!("focus.js");

/// axe-core's rules, but those: that there is one `main` and everything is in a landmark, which a phone's list (its
/// conversation is out of sight) and lines that float over all panes do not keep; and the size of targets and contrast,
/// which the own checks measure with the colours that are really drawn.
const AXE: &str = "return axe.run(document.querySelector('dialog:modal') ?? document, { resultTypes: ['violations'], rules: { \
    'landmark-one-main': { enabled: false }, 'page-has-heading-one': { enabled: false }, region: { enabled: false }, \
    'color-contrast': { enabled: false }, 'target-size': { enabled: false } } }) \
    .then(r => r.violations.flatMap(v => v.nodes.map(n => `axe ${v.id}: ${n.target.join(' ')}: ${v.help}`)))";

/// Where axe-core is, if `e2e/axe/setup` has put it there.
fn axe() -> Option<PathBuf> {
    let file = std::env::var_os("STARLING_AXE").map(PathBuf::from);
    let file = file.or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
        Some(cache.or_else(home)?.join("starling/axe/axe.min.js"))
    });
    file.filter(|f| f.is_file())
}

/// A place in the order of the Tab key.
#[derive(Debug, Clone)]
pub struct Stop {
    /// A number of the element.
    pub element: u64,
    /// What it is and is called.
    pub what: String,
    /// One sees that it has the focus.
    pub visible: bool,
    /// It is on the screen, and nothing lies over it.
    pub inside: bool,
}

fn lines(found: &Value) -> Vec<String> {
    let all = found.as_array().cloned().unwrap_or_default();
    all.iter()
        .filter_map(|l| l.as_str().map(str::to_owned))
        .collect()
}

impl Browser {
    /// What is wrong with the page as it is now, by the own checks.
    pub async fn faults(&self) -> Vec<String> {
        lines(&self.run(OWN).await)
    }

    /// What is wrong by axe-core's rules; `None` if it is not installed.
    pub async fn axe_faults(&self) -> Option<Vec<String>> {
        let source = match axe() {
            Some(file) => std::fs::read_to_string(file).expect("axe-core can be read"),
            None => {
                assert!(
                    std::env::var_os("STARLING_E2E_STRICT").is_none(),
                    "axe-core is not installed: e2e/axe/setup"
                );
                eprintln!("axe-core's rules are left out: e2e/axe/setup installs it");
                return None;
            }
        };
        if self.run("return !window.axe").await == true {
            self.run(&source).await;
        }
        Some(lines(&self.run(AXE).await))
    }

    /// Audits a view; what is found makes the story fail when the browser is closed.
    pub async fn audit(&self, view: &str, with_axe: bool) {
        let mut found = self.faults().await;
        if with_axe {
            found.extend(self.axe_faults().await.unwrap_or_default());
        }
        let mut all = self.findings.lock().expect("no audit panicked");
        for line in found {
            all.entry(line).or_insert_with(|| view.to_owned());
        }
    }

    /// Goes through the page with the Tab key, once around; panics if there is no way around.
    pub async fn tab_around(&self) -> Vec<Stop> {
        self.run("document.activeElement?.blur(); window.getSelection()?.removeAllRanges()")
            .await;
        let mut stops: Vec<Stop> = Vec::new();
        let mut outside = 0;
        for _ in 0..200 {
            self.devtools(
                "Input.dispatchKeyEvent",
                json!({"type": "keyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}),
            )
            .await;
            self.devtools(
                "Input.dispatchKeyEvent",
                json!({"type": "keyUp", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}),
            )
            .await;
            let now = self.run(FOCUS).await;
            let Some(element) = now["element"].as_u64() else {
                // Out of the page, where the browser's own controls are; the walk began somewhere in the middle.
                outside += 1;
                if outside > 2 && !stops.is_empty() {
                    return stops;
                }
                continue;
            };
            if let Some(known) = stops.iter().position(|s| s.element == element) {
                assert_eq!(known, 0, "the focus turns back to {now:#} of {stops:#?}");
                return stops;
            }
            stops.push(Stop {
                element,
                what: now["what"].as_str().unwrap_or_default().to_owned(),
                visible: now["visible"] == true,
                inside: now["inside"] == true,
            });
        }
        panic!("the Tab key comes to no end: {stops:#?}")
    }
}
