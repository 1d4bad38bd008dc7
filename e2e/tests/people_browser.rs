//! Those whom one turns away and those who are away, a backup that is restored, and messages that are not what was
//! signed: as a person meets them in the page.

use serde_json::{Value, json};
use starling_e2e::{Browser, Lab, Starling, browser, jami, needs, wait};
use std::process::{Command, Stdio};

/// Which invitations are open at a bridge.
fn requests(who: &Starling) -> Value {
    who.rpc("request.list", json!({"account": who.account()}))
}

/// Puts a text in place of what stands in a field.
async fn instead(page: &Browser, name: &str, text: &str) {
    let field = page.named("textbox", name).await;
    field.clear().await.expect("the field can be emptied");
    page.fill(name, text).await;
}

/// Whether the list says how many messages of somebody are unread: its words, as they are read out.
async fn unread(page: &Browser, name: &str, words: Option<&str>) {
    page.until(
        &format!("{name} with {words:?} unread"),
        &format!(
            "const e = [...document.querySelectorAll('[data-testid=conversation]')].find(e => e.innerText.includes({})); \
             return !!e && (e.querySelector('.badge')?.nextElementSibling.textContent ?? null) === {}",
            json!(name),
            json!(words)
        ),
    )
    .await;
}

/// What the QR codes say that are seen at an element, as a camera sees it.
async fn scan(page: &Browser, css: &str) -> Vec<String> {
    let picture = page.picture(css).await;
    let mut seen =
        rqrr::PreparedImage::prepare_from_greyscale(picture.width, picture.height, |x, y| {
            picture.grey[y * picture.width + x]
        });
    let codes = seen.detect_grids().into_iter();
    codes
        .map(|code| code.decode().expect("can be read").1)
        .collect()
}

/// From now on, every line under the header is written down.
const WRITE_DOWN: &str = "window.lines = []; new MutationObserver(() => { \
    const line = document.querySelector('[data-testid=link-line]')?.innerText.trim(); \
    if (line && window.lines.at(-1) !== line) window.lines.push(line); \
    }).observe(document.body, { subtree: true, childList: true, characterData: true });";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn some_are_turned_away_and_one_is_a_friend_who_comes_and_goes() {
    needs!(browser::missing());
    // Where everybody has an address of their own, one is connected directly; in a house, on the same network.
    let mut lab = Lab::public();
    let boot = jami::boot(&mut lab);
    let hosts = ["alice", "bob", "carol", "denys"].map(|name| lab.host(name));
    let [mut alice, mut bob, mut carol, mut denys] = Starling::each(&hosts, &boot);
    let alice_id = alice.have_account("Alice Martin");
    bob.have_account("Bob Okonkwo");
    carol.have_account("Carol Lindqvist");
    denys.have_account("Denys Kowal");
    let page = Browser::open(&mut lab, &hosts[0]).await;
    page.go(alice.url()).await;

    // One's own address, as it is given to others.
    page.named("heading", "Conversations").await;
    page.run("location.hash = '#/settings'").await;
    page.find("[data-testid=address]").await;
    page.run("navigator.clipboard.writeText = async text => { window.copied = text; }")
        .await;
    page.press("button", "Copy").await;
    let copied = page
        .until("the copied address", "return window.copied ?? null")
        .await;
    assert_eq!(copied, json!(alice_id));
    page.named("button", "Copied").await;
    let scanned = scan(&page, ".qr").await;
    assert_eq!(scanned, [format!("jami:{alice_id}")]);
    page.run("location.hash = '#/'").await;

    // One is declined, another blocked.
    bob.add_contact(&alice_id);
    page.named("article", "Request from Bob Okonkwo").await;
    page.press("button", "Decline").await;
    page.wait_text("The request of Bob Okonkwo will be declined.")
        .await;
    carol.add_contact(&alice_id);
    page.named("article", "Request from Carol Lindqvist").await;
    page.press("button", "Block").await;
    page.wait_text("Carol Lindqvist will be blocked.").await;
    page.until(
        "both requests to go",
        "return !document.querySelector('[data-testid=request]')",
    )
    .await;
    assert_eq!(requests(&alice), json!([]));
    page.run("location.hash = '#/settings'").await;
    page.until(
        "Carol among the blocked",
        "const all = [...document.querySelectorAll('[data-testid=blocked]')]; return all.length === 1 && all[0].innerText.includes('Carol Lindqvist')",
    )
    .await;
    page.run("location.hash = '#/'").await;

    // For good: a bridge that starts again finds both requests once more where they were left for it, with the new one.
    alice.down();
    let two = denys.add_contact(&alice_id);
    alice.up();
    page.named("article", "Request from Denys Kowal").await;
    let open = requests(&alice);
    assert_eq!(open.as_array().map(Vec::len), Some(1), "{open}");
    assert_eq!(
        page.texts("[data-testid=request] .name").await,
        ["Denys Kowal"]
    );
    page.press("button", "Accept").await;
    page.named("textbox", "Message to Denys Kowal").await;
    denys.wait_role(&two, &alice_id, "member");

    // What came while the conversation is not open is counted, until it is read.
    page.run("location.hash = '#/'").await;
    page.until(
        "no conversation to be open",
        "return !document.querySelector('textarea')",
    )
    .await;
    unread(&page, "Denys Kowal", None).await;
    denys.send(&two, "Are you in?");
    unread(&page, "Denys Kowal", Some("1 unread message")).await;
    denys.send(&two, "I am at the door");
    unread(&page, "Denys Kowal", Some("2 unread messages")).await;
    page.click("[data-testid=conversation]").await;
    page.bubble("I am at the door").await;
    unread(&page, "Denys Kowal", None).await;
    page.run("location.hash = '#/'").await;
    page.until(
        "no conversation to be open",
        "return !document.querySelector('textarea')",
    )
    .await;
    unread(&page, "Denys Kowal", None).await;

    // He goes, and comes back.
    page.click("[data-testid=conversation]").await;
    page.until(
        "Denys to be there",
        "return document.querySelector('[data-testid=link]')?.innerText === 'Reachable' && !document.querySelector('[data-testid=link-line]')",
    )
    .await;
    page.run(&format!("location.hash = '#/c/{two}/details'"))
        .await;
    page.until(
        "words for how one is connected with him",
        "return document.querySelector('[data-testid=route]')?.innerText === 'Connected directly'",
    )
    .await;
    page.run(&format!("location.hash = '#/c/{two}'")).await;
    page.run(WRITE_DOWN).await;
    denys.down();
    page.fill("Message to Denys Kowal", "I am coming\n").await;
    page.bubble("I am coming").await;
    page.until(
        "words for one who cannot be reached",
        "const words = document.querySelector('[data-testid=link-line]')?.innerText ?? ''; \
         return /^Denys Kowal (is offline( since [^.]+)?\\. Your message reaches them when one of their devices is back\\.|cannot be reached right now\\. Your message is safe here and follows when the connection works\\.)$/.test(words)",
    )
    .await;
    page.until(
        "words for one who is looked for",
        "return window.lines.includes('Looking for Denys Kowal’s devices…')",
    )
    .await;
    denys.up();
    denys.wait_text_or_history(&two, "I am coming");
    page.until(
        "Denys to be there again",
        "return document.querySelector('[data-testid=link]')?.innerText === 'Reachable' && !document.querySelector('[data-testid=link-line]')",
    )
    .await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn somebody_comes_with_a_backup_that_has_a_password() {
    needs!(browser::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let hosts = ["old", "new"].map(|name| lab.host(name));
    let mut old = Starling::start(&hosts[0], &boot);
    let id = old.have_account("Alice Martin");
    let backup = old.rpc(
        "account.export",
        json!({"account": old.account(), "password": "seven green parrots"}),
    );
    old.down();

    let mut new = Starling::start(&hosts[1], &boot);
    let page = Browser::open(&mut lab, &hosts[1]).await;
    page.go(new.url()).await;
    page.press("button", "I have a backup of an account").await;
    page.find("[data-testid=backup-file]").await;
    page.run(&format!(
        "const bytes = Uint8Array.from(atob({}), c => c.charCodeAt(0)); const files = new DataTransfer(); \
         files.items.add(new File([bytes], 'Alice.gz')); const field = document.querySelector('[data-testid=backup-file]'); \
         field.files = files.files; field.dispatchEvent(new Event('change', {{ bubbles: true }}))",
        backup["archive"]
    ))
    .await;
    page.wait_text("Alice.gz").await;
    page.fill("Password of the account", "seven grey parrots")
        .await;
    page.press("button", "Restore").await;
    page.wait_text("The password is missing or wrong.").await;
    assert_eq!(new.rpc("account.list", json!({})), json!([]));
    page.shoot("51-backup-wrong-password").await;
    instead(&page, "Password of the account", "seven green parrots").await;
    page.press("button", "Restore").await;
    page.named("heading", "Conversations").await;
    assert_eq!(new.adopt_account(), id);
    page.run("location.hash = '#/settings'").await;
    let address = page.find("[data-testid=address]").await;
    assert_eq!(address.text().await.expect("has a text"), id);
    assert_eq!(page.complaints().await, Vec::<String>::new());
    page.close().await;
}

/// Git in the repository of a conversation; gives what it prints.
fn git(who: &Starling, conversation: &str, arguments: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new("git")
        .args(["-c", "safe.directory=*", "--git-dir"])
        .arg(who.repository(conversation))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git runs");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("git reads");
    let out = child.wait_with_output().expect("git ends");
    assert!(out.status.success(), "git {arguments:?}");
    String::from_utf8(out.stdout).expect("text")
}

/// A commit with one bit of its signature turned.
fn with_a_bent_signature(commit: &str) -> String {
    const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let at = commit.find("\nsignature ").expect("a signature") + "\nsignature ".len() + 40;
    let digit = BASE64
        .find(&commit[at..=at])
        .expect("the signature is base64");
    let other = &BASE64[digit ^ 1..=(digit ^ 1)];
    format!("{}{other}{}", &commit[..at], &commit[at + 1..])
}

/// Waits until the page's word on every message is the expected one.
async fn verdicts(page: &Browser, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(text, verdict)| json!([text, format!("Show the proof: {verdict}")]))
        .collect();
    page.until(
        &format!("the verdicts {expected:?}"),
        &format!(
            "const all = [...document.querySelectorAll('[data-testid=message]')].map(e => [e.querySelector('[data-testid=bubble]').innerText.trim(), e.querySelector('[data-testid=proof]').getAttribute('aria-label')]); \
             return JSON.stringify(all) === JSON.stringify({})",
            json!(expected)
        ),
    )
    .await;
}

const CHECKED: &str = "Checked by this page";
const UNKNOWN: &str = "Could not be checked";
const WRONG: &str = "Something is wrong with this message";

/// The bridge that is not to be believed is made of an honest one: the words are altered on their way out of its
/// socket, and a commit with a bent signature is put into its repository while it does not run.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_page_says_so_where_it_is_shown_what_nobody_signed() {
    needs!(browser::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let hosts = ["alice", "bob"].map(|name| lab.host(name));
    let [mut alice, mut bob] = Starling::each(&hosts, &boot);
    alice.have_account("Alice Martin");
    bob.have_account("Bob Okonkwo");
    let two = alice.befriend(&bob);
    let said = ["Good morning", "You owe me 5 euros", "See you on Monday"];
    for text in &said[..2] {
        bob.send(&two, text);
        alice.wait_text_or_history(&two, text);
    }

    let page = Browser::open(&mut lab, &hosts[0]).await;
    page.go(alice.url()).await;
    page.named("heading", "Conversations").await;
    page.run(&format!("location.hash = '#/c/{two}'")).await;
    let checked = said.map(|text| (text, CHECKED));
    verdicts(&page, &checked[..2]).await;

    // One comes, and before the page asks for what it needs to judge it, nobody is there who would answer.
    page.run("window.held = []; window.realFrame = window.requestAnimationFrame; window.requestAnimationFrame = f => window.held.push(f)")
        .await;
    bob.send(&two, said[2]);
    page.bubble(said[2]).await;
    assert_eq!(page.complaints().await, Vec::<String>::new());
    wait::until("both to have the same newest commit", || {
        let [a, b] = [&alice, &bob].map(|who| git(who, &two, &["rev-parse", "main"], ""));
        (a == b).then_some(())
    });
    bob.down();
    alice.down();
    page.run("window.requestAnimationFrame = window.realFrame; for (const f of window.held.splice(0)) f(performance.now())")
        .await;
    verdicts(&page, &[checked[0], checked[1], (said[2], UNKNOWN)]).await;
    page.run("document.querySelectorAll('[data-testid=message] [data-testid=proof]')[2].click()")
        .await;
    page.find("[data-testid=proof-panel]").await;
    page.shoot("52-proof-not-checked").await;
    alice.up();
    page.gone(".socket-line").await;
    page.press("button", "Check again").await;
    verdicts(&page, &checked).await;
    page.complaints().await;

    // Other words than were signed, in all that the socket brings.
    page.devtools(
        "Page.addScriptToEvaluateOnNewDocument",
        json!({"source": "const real = Object.getOwnPropertyDescriptor(MessageEvent.prototype, 'data'); \
            Object.defineProperty(MessageEvent.prototype, 'data', { ...real, get() { const data = real.get.call(this); \
            return this.currentTarget instanceof WebSocket && typeof data === 'string' ? data.replaceAll('You owe me 5 euros', 'You owe me 500 euros') : data; } });"}),
    )
    .await;
    page.reload().await;
    verdicts(
        &page,
        &[
            (said[0], CHECKED),
            ("You owe me 500 euros", WRONG),
            (said[2], CHECKED),
        ],
    )
    .await;
    page.run("document.querySelectorAll('[data-testid=message] [data-testid=proof]')[1].click()")
        .await;
    page.wait_text("This message breaks a rule. What is shown is not what was signed.")
        .await;
    page.shoot("52-proof-other-words").await;

    // One bit of the newest signature.
    alice.down();
    let newest = git(&alice, &two, &["cat-file", "commit", "main"], "");
    assert!(newest.contains(said[2]), "{newest}");
    let bent = with_a_bent_signature(&newest);
    let bent = git(
        &alice,
        &two,
        &["hash-object", "-t", "commit", "-w", "--stdin"],
        &bent,
    );
    git(
        &alice,
        &two,
        &["update-ref", "refs/heads/main", bent.trim()],
        "",
    );
    alice.up();
    page.reload().await;
    page.run(&format!("location.hash = '#/c/{two}'")).await;
    verdicts(
        &page,
        &[
            (said[0], CHECKED),
            ("You owe me 500 euros", WRONG),
            (said[2], WRONG),
        ],
    )
    .await;
    page.run("document.querySelectorAll('[data-testid=message] [data-testid=proof]')[2].click()")
        .await;
    page.wait_text("This message breaks a rule. It is not signed by the device it names.")
        .await;
    // Folded away, for those who want the rule's own name.
    page.until(
        "the name of the rule",
        "return !!document.querySelector('[data-testid=proof-panel]')?.textContent.includes('WrongSignature: ')",
    )
    .await;
    page.close().await;
}
