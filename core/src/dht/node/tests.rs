//! Stories of nodes with each other, in virtual time.

use super::testkit::*;
use super::*;

const KEY: InfoHash = InfoHash([0x5a; 20]);

fn hello(id: u64) -> Value {
    Value::new(0, b"hello".to_vec()).with_id(id)
}

#[test]
fn alone_a_node_serves_itself() {
    let mut w = World::new(1);
    let alice = w.add(|_| {});
    let put = w.put(alice, KEY, hello(7), false);
    let get = w.get(alice, KEY);
    let listen = w.listen(alice, KEY);
    assert_eq!(w.wait(alice, put), (false, Duration::ZERO));
    assert_eq!(w.wait(alice, get), (false, Duration::ZERO));
    assert_eq!(w.values(alice, get), [Arc::new(hello(7))]);
    assert_eq!(w.values(alice, listen), [Arc::new(hello(7))]);
    w.put(alice, KEY, hello(8), true);
    w.run(secs(601));
    assert_eq!(w.values(alice, listen).len(), 2);
    assert_eq!(w.expired(alice, listen), [Arc::new(hello(7))]);
}

#[test]
fn two_nodes_join_put_get_and_listen() {
    let mut w = World::new(2);
    let (alice, bob) = (w.add(|_| {}), w.add(|_| {}));
    w.join(bob, alice);
    let listen = w.listen(alice, KEY);
    let put = w.put(bob, KEY, hello(7), false);
    let (ok, took) = w.wait(bob, put);
    assert!(ok);
    // Bootstrap, find, put: three round trips of at most 120 ms.
    assert!(took < ms(400), "{took:?}");
    w.run(ms(200));
    assert_eq!(w.values(alice, listen), [Arc::new(hello(7))]);

    let get = w.get(alice, KEY);
    assert!(w.wait(alice, get).0);
    assert_eq!(w.values(alice, get), [Arc::new(hello(7))]);

    // Alice listens at Bob; what she puts herself reaches his listener at once.
    let listen = w.listen(bob, KEY);
    w.run(secs(2));
    let start = w.now;
    w.put(alice, KEY, hello(8), false);
    assert!(w.until(secs(5), |w| w.values(bob, listen).len() == 2));
    assert!(w.now - start <= ms(60));
}
