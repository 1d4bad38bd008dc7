//! Two Starlings, each used through its page, in Chromium.

use serde_json::Value;
use starling_e2e::{Browser, Lab, Starling, browser, jami, needs};
use std::process::Command;

/// Alice and Bob, each with a bridge and a browser of their own.
struct Pair {
    alice: Starling,
    bob: Starling,
    alices: Browser,
    bobs: Browser,
    // Last: everything above runs in it.
    _lab: Lab,
}

/// Opens the page by the printed address and goes through the first run. Gives the Jami ID.
async fn first_run(browser: &Browser, bridge: &mut Starling, name: &str) -> String {
    browser.go(bridge.url()).await;
    browser.fill("Your name", name).await;
    // The code must not stay where a shoulder or a history can see it.
    let at = browser.run("return location.href").await;
    assert!(!at.as_str().unwrap_or_default().contains("pair"), "{at}");
    browser.press("button", "Continue").await;
    browser.named("heading", "This is your address").await;
    let id = browser.find("[data-testid=address]").await;
    let id = id.text().await.expect("has a text");
    browser.press("button", "Later").await;
    browser.named("heading", "Conversations").await;
    assert_eq!(bridge.adopt_account(), id);
    id
}

async fn pair() -> (Pair, String, String) {
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let (alice_host, bob_host) = (lab.host("alice"), lab.host("bob"));
    let mut alice = Starling::start(&alice_host, &boot);
    let mut bob = Starling::start(&bob_host, &boot);
    let alices = Browser::open(&mut lab, &alice_host).await;
    let bobs = Browser::open(&mut lab, &bob_host).await;
    let alice_id = first_run(&alices, &mut alice, "Alice").await;
    let bob_id = first_run(&bobs, &mut bob, "Bob").await;
    let pair = Pair {
        alice,
        bob,
        alices,
        bobs,
        _lab: lab,
    };
    (pair, alice_id, bob_id)
}

/// Waits until a bubble says exactly this, in the history and not on its way into it.
async fn wait_bubble(browser: &Browser, text: &str) {
    let script = format!(
        "return [...document.querySelectorAll('[data-testid=message] [data-testid=bubble]')].some(e => e.innerText.trim() === {})",
        Value::from(text)
    );
    browser
        .until(&format!("the bubble {text:?}"), &script)
        .await;
}

const BUBBLES: &str = "[data-testid=message] [data-testid=bubble]";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_people_meet_and_chat_in_their_browsers() {
    needs!(browser::missing());
    let (mut both, _, bob_id) = pair().await;
    let (alices, bobs) = (&both.alices, &both.bobs);

    alices.press("button", "Add someone").await;
    alices
        .fill("Their address", &format!("jami:{bob_id}"))
        .await;
    alices
        .fill("A few words (optional)", "It is me, Alice")
        .await;
    alices.press("button", "Send request").await;
    // Bob's name is known once he has accepted.
    alices.wait_text("has not accepted yet").await;

    bobs.named("article", "Request from Alice").await;
    bobs.wait_text("It is me, Alice").await;
    bobs.press("button", "Accept").await;
    bobs.named("textbox", "Message to Alice").await;
    alices.wait_text("Bob accepted").await;

    let mut said = Vec::new();
    for i in 0..10 {
        let (a, b) = (
            format!("{i} from Alice: ✓ <b>&amp;"),
            format!("{i} from Bob: ü 你好"),
        );
        if i == 5 {
            assert_eq!(alices.complaints().await, Vec::<String>::new());
            assert_eq!(bobs.complaints().await, Vec::<String>::new());
            // Without a goodbye, as when the power goes.
            both.bob.kill();
            bobs.wait_text("The connection to Starling is lost").await;
        }
        alices.fill("Message to Bob", &format!("{a}\n")).await;
        wait_bubble(alices, &a).await;
        if i == 5 {
            // Written while the bridge is away: it waits in the page.
            bobs.fill("Message to Alice", &format!("{b}\n")).await;
            bobs.find("[data-testid=pending]").await;
            both.bob.up();
        }
        wait_bubble(bobs, &a).await;
        if i != 5 {
            bobs.fill("Message to Alice", &format!("{b}\n")).await;
        }
        wait_bubble(alices, &b).await;
        wait_bubble(bobs, &b).await;
        said.extend([a, b]);
    }

    // Nothing lost, nothing doubled, nothing still under way, and both see the same.
    for browser in [alices, bobs] {
        let mut shown = browser.texts(BUBBLES).await;
        // The two of the restart may stand either way round.
        shown.sort();
        let mut expected = said.clone();
        expected.sort();
        assert_eq!(shown, expected);
        assert_eq!(
            browser.texts("[data-testid=pending]").await,
            Vec::<String>::new()
        );
    }
    assert_eq!(alices.texts(BUBBLES).await, bobs.texts(BUBBLES).await);

    // Each page checked each message itself.
    for browser in [alices, bobs] {
        browser
            .until(
                "every message to be checked by the page",
                "const all = [...document.querySelectorAll('[data-testid=message] [data-testid=proof]')]; \
                 return all.length === 20 && all.every(e => e.getAttribute('aria-label') === 'Show the proof: Checked by this page')",
            )
            .await;
    }
    // The last words were read by the other: the page says so.
    alices
        .until(
            "the last message to be read",
            "const all = [...document.querySelectorAll('.message.own [data-testid=state]')]; return all.at(-1)?.title === 'Read by Bob'",
        )
        .await;

    // The proof of one message, step by step.
    alices
        .press("button", "Show the proof: Checked by this page")
        .await;
    alices
        .wait_text("This page checked the signature, the device and the rules")
        .await;
    alices.wait_text("RSA key of 4096 bits").await;

    assert_eq!(alices.complaints().await, Vec::<String>::new());
    // The browser itself reports each connection that failed while the bridge was away, and that
    // the new bridge did not know the old session.
    let own: Vec<String> = bobs
        .complaints()
        .await
        .into_iter()
        .filter(|c| !c.contains("ERR_CONNECTION_REFUSED") && !c.contains("/pair/session - "))
        .collect();
    assert_eq!(own, Vec::<String>::new());
    assert_eq!(both.alice.rejections(), Vec::<Value>::new());
    assert_eq!(both.bob.rejections(), Vec::<Value>::new());

    // After a reload everything is there again, from the repository.
    alices.reload().await;
    wait_bubble(alices, &said[19]).await;
    let mut shown = alices.texts(BUBBLES).await;
    shown.sort();
    said.sort();
    assert_eq!(shown, said);

    let list = both.alice.rpc(
        "conversation.list",
        serde_json::json!({"account": both.alice.account()}),
    );
    let conversation = list[0]["id"].as_str().expect("an id").to_owned();
    for side in [&both.alice, &both.bob] {
        sound(&side.repository(&conversation));
    }
    both.alices.close().await;
    both.bobs.close().await;
}

/// A repository is in order by git's rules and by ours.
fn sound(path: &std::path::Path) {
    let fsck = Command::new("git")
        .args(["-c", "safe.directory=*", "-C"])
        .arg(path)
        .args(["fsck", "--strict", "--full"])
        .output()
        .expect("git runs");
    assert!(
        fsck.status.success(),
        "git fsck: {}",
        String::from_utf8_lossy(&fsck.stderr)
    );
    let verify = Command::new(starling_e2e::starling::binary())
        .arg("verify")
        .arg(path)
        .output()
        .expect("starling runs");
    assert!(
        verify.status.success(),
        "{}{}",
        String::from_utf8_lossy(&verify.stdout),
        String::from_utf8_lossy(&verify.stderr)
    );
}
