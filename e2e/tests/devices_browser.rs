//! The devices of an account in the page: how one is seen, and how it is removed by another one.

use serde_json::{Value, json};
use starling_e2e::browser::{DESKTOP, PHONE};
use starling_e2e::{Browser, Lab, Starling, browser, jami, needs, wait};

const PASSWORD: &str = "seven green parrots";

/// The rows of the devices: what each says, and its buttons.
const ROWS: &str = "return [...document.querySelectorAll('[data-testid=device]')].map(e => \
    [e.querySelector('.what').innerText.trim(), ...[...e.querySelectorAll('button')].map(b => b.innerText.trim())].join(' | '))";

/// From now on it is written down whether the question says that it is at work, and cannot be asked twice.
const WATCH: &str = "new MutationObserver(() => { const button = document.querySelector('#confirm-go'); \
    if (button?.disabled && button.getAttribute('aria-busy') === 'true' && button.innerText === 'Removing…') window.busy = true; \
    }).observe(document.querySelector('dialog'), { subtree: true, childList: true, characterData: true, attributes: true });";

/// An id as the page shows it.
fn short(id: &str) -> String {
    format!("\u{2066}{}…{}\u{2069}", &id[..6], &id[id.len() - 4..])
}

/// The device a Starling is.
fn device(who: &Starling) -> String {
    let list = who.rpc("device.list", json!({"account": who.account()}));
    let this = list.as_array().and_then(|all| all.first());
    let this = this.expect("this one is the first");
    assert_eq!(this["current"], true);
    this["device"].as_str().expect("an id").to_owned()
}

/// How a Starling shows its own device; others are not told what it is called.
fn own_name(who: &Starling) -> String {
    let details = who.rpc("account.get", json!({"account": who.account()}));
    let name = details["deviceName"].as_str();
    let name = name.filter(|n| !n.is_empty()).expect("a name");
    format!("{name} · {}", short(&device(who)))
}

/// Waits until the page shows these devices.
async fn rows(page: &Browser, expected: &[String]) {
    let script = ROWS.replacen("return ", "const rows = ", 1);
    page.until(
        &format!("the devices {expected:?}"),
        &format!(
            "{script}; return JSON.stringify(rows) === JSON.stringify({})",
            json!(expected)
        ),
    )
    .await;
}

/// Keeps pictures of the devices among the settings, as [`Browser::shoot`] does.
async fn shoot_devices(page: &Browser, name: &str) {
    for (device, (width, height)) in [("desktop", DESKTOP), ("phone", PHONE)] {
        for look in ["light", "dark"] {
            page.screen(width, height, &[("prefers-color-scheme", look)])
                .await;
            page.run("document.querySelector('#devices').closest('section').scrollIntoView({ block: 'center' })")
                .await;
            page.painted().await;
            let view = format!("{name}-{device}-{look}");
            page.shot(&view).await;
            page.audit(&view, look == "light").await;
        }
    }
    page.screen(DESKTOP.0, DESKTOP.1, &[]).await;
}

/// Waits until this has the focus.
async fn focused(page: &Browser, css: &str) {
    page.until(
        &format!("the focus on {css}"),
        &format!("return document.activeElement?.matches({})", json!(css)),
    )
    .await;
}

/// Presses the button of the device in this row, counted from 1, by keyboard.
async fn ask_to_remove(page: &Browser, row: usize) {
    page.type_into(
        &format!("[data-testid=device]:nth-child({row}) .danger"),
        "\u{e007}",
    )
    .await;
    page.find("dialog:modal").await;
    focused(page, "#confirm-password").await;
}

/// Waits for what the question says went wrong: it belongs to the field, which has the focus.
async fn failed(page: &Browser, words: &str) {
    page.until(
        &format!("{words:?} beside the field"),
        &format!(
            "const field = document.activeElement; if (field?.id !== 'confirm-password') return null; \
             return document.getElementById(field.getAttribute('aria-describedby'))?.innerText.trim() === {}",
            json!(words)
        ),
    )
    .await;
}

/// Puts a password into the field that has the focus, and presses Enter.
async fn answer(page: &Browser, password: &str) {
    let field = page.named("textbox", "Password of the account").await;
    field.clear().await.expect("the field can be emptied");
    page.fill("Password of the account", &format!("{password}\n"))
        .await;
}

/// How often a device has come to be connected.
fn connections(who: &Starling, device: &str) -> usize {
    let log = who.log();
    let of_it = |l: &&str| l.contains(device) && l.contains("state: Connected");
    log.lines().filter(of_it).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_device_is_removed_by_another_one() {
    needs!(browser::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let hosts = ["alice", "laptop", "phone"].map(|name| lab.host(name));
    let [mut alice, mut laptop, mut phone] = Starling::each(&hosts, &boot);
    alice.create_account("Alice Martin");
    let bob = laptop.create_account("Bob Okonkwo");
    let two = alice.befriend(&laptop);
    let page = Browser::open(&mut lab, &hosts[1]).await;
    page.go(laptop.url()).await;
    page.named("heading", "Conversations").await;
    page.run("location.hash = '#/settings'").await;

    // One alone: how there comes another.
    let this = device(&laptop);
    let this_row = format!("{}\nThis device | Copy", own_name(&laptop));
    rows(&page, std::slice::from_ref(&this_row)).await;
    page.wait_text("Your account is on this one alone.").await;
    shoot_devices(&page, "70-devices-alone").await;

    // It comes from a backup, and the page hears of it.
    let account = laptop.account();
    laptop.rpc(
        "account.changePassword",
        json!({"account": account, "new": PASSWORD}),
    );
    let backup = laptop.rpc(
        "account.export",
        json!({"account": account, "password": PASSWORD}),
    );
    phone.rpc(
        "account.import",
        json!({"archive": backup["archive"], "password": PASSWORD}),
    );
    assert_eq!(phone.adopt_account(), bob);
    let phones = Browser::open(&mut lab, &hosts[2]).await;
    phones.go(phone.url()).await;
    phones.named("heading", "Conversations").await;
    phones.run("location.hash = '#/settings'").await;
    let other = device(&phone);
    let other_row = format!("{} | Copy | Remove…", short(&other));
    rows(&page, &[this_row.clone(), other_row.clone()]).await;
    page.wait_text("Each of them writes in your name.").await;
    let of_phone = |who: &Starling, kind: &str| {
        who.wait(kind, |k, e: &Value| {
            (k == kind && e["id"] == bob && e["device"] == other).then_some(())
        });
    };
    of_phone(&alice, "device.added");
    phone.wait_ready(&two);
    // The two are friends and meet.
    wait::until("the phone to be connected", || {
        (connections(&alice, &other) > 0).then_some(())
    });
    shoot_devices(&page, "70-devices").await;
    page.run("navigator.clipboard.writeText = async text => { window.copied = text; }; \
        [...document.querySelectorAll('[data-testid=device]')].at(-1).querySelector('button').click()")
        .await;
    let copied = page
        .until("the copied id", "return window.copied ?? null")
        .await;
    assert_eq!(copied, json!(other));

    // Who is asked and does not want to is back where they were.
    for out in ["Escape", "Cancel"] {
        ask_to_remove(&page, 2).await;
        match out {
            "Escape" => page.key(out).await,
            _ => page.press("button", out).await,
        }
        page.gone("dialog").await;
        focused(&page, "[data-testid=device]:last-child .danger").await;
    }

    let listed = || {
        let list = laptop.rpc("device.list", json!({"account": account}));
        let list = list.as_array().expect("a list").clone();
        let found = list.iter().find(|d| d["device"] == other);
        found.expect("the phone")["revoked"] == true
    };
    ask_to_remove(&page, 2).await;
    page.shoot("71-device-remove").await;
    answer(&page, "seven grey parrots").await;
    failed(&page, "The password is missing or wrong.").await;
    assert_eq!(
        page.run("return document.activeElement.getAttribute('aria-invalid')")
            .await,
        "true"
    );
    page.shoot("71-device-remove-wrong").await;
    assert!(!listed());
    page.run(WATCH).await;
    answer(&page, PASSWORD).await;
    let other_row = format!("{}\nRemoved | Copy", short(&other));
    rows(&page, &[this_row, other_row.clone()]).await;
    assert!(listed());
    focused(&page, "#devices").await;
    assert_eq!(page.run("return window.busy ?? false").await, true);
    page.wait_text("You removed one of your devices.").await;
    shoot_devices(&page, "72-device-removed").await;

    // It is not let in any more, and asks in vain; the other goes on.
    for who in [&alice, &laptop] {
        of_phone(who, "device.revoked");
    }
    let before = connections(&alice, &other);
    phone.send(&two, "from the phone");
    wait::until("the phone to ask", || {
        let log = alice.log();
        let of_it = |l: &str| l.contains("took back asks for a connection") && l.contains(&other);
        log.lines().any(of_it).then_some(())
    });
    laptop.send(&two, "from the laptop");
    alice.wait_text_or_history(&two, "from the laptop");
    assert!(!alice.texts(&two).contains(&"from the phone".to_owned()));
    assert_eq!(connections(&alice, &other), before);

    // It says so itself: where it is told, among the devices, and where one would write.
    phones
        .wait_text("This device was removed by another one of your account.")
        .await;
    let rows_there = [
        format!("{}\nThis device · Removed | Copy", own_name(&phone)),
        format!("{} | Copy | Remove…", short(&this)),
    ];
    rows(&phones, &rows_there).await;
    shoot_devices(&phones, "73-this-device-removed").await;
    phones.reload().await;
    rows(&phones, &rows_there).await;
    assert_eq!(phones.texts("section > .note.error").await.len(), 1);
    phones.run(&format!("location.hash = '#/c/{two}'")).await;
    phones
        .wait_text("This device was removed from the account and can no longer take part.")
        .await;
    phones.close().await;

    // A page that does not know yet which device is which, and one that nobody can find.
    let nobody = other.chars().rev().collect::<String>();
    page.devtools(
        "Page.addScriptToEvaluateOnNewDocument",
        json!({"source": format!("const real = Object.getOwnPropertyDescriptor(MessageEvent.prototype, 'data'); \
            Object.defineProperty(MessageEvent.prototype, 'data', {{ ...real, get() {{ const data = real.get.call(this); \
            return this.currentTarget instanceof WebSocket && typeof data === 'string' ? data.replaceAll({}, {}) \
            .replaceAll('\"current\":true', '\"current\":false').replaceAll('\"revoked\":true', '\"revoked\":false') : data; }} }});", json!(other), json!(nobody))}),
    )
    .await;
    page.reload().await;
    for (which, words) in [
        (
            1,
            "This is the device that you are using. Remove it from another one.",
        ),
        (
            2,
            "Its certificate cannot be found now, and without that it cannot be removed. Try again later.",
        ),
    ] {
        ask_to_remove(&page, which).await;
        answer(&page, PASSWORD).await;
        failed(&page, words).await;
        page.key("Escape").await;
        page.gone("dialog").await;
    }

    // In Arabic, from right to left.
    page.run("localStorage.setItem('starling.language', 'ar')")
        .await;
    page.reload().await;
    page.find("[data-testid=device] .danger").await;
    shoot_devices(&page, "74-devices-arabic").await;
    ask_to_remove(&page, 2).await;
    page.shoot("74-device-remove-arabic").await;
    page.close().await;
}
