use starling_core::dht::Value;
use starling_core::identity::RevocationList;

pub(crate) fn run(data: &[u8]) {
    let alone = RevocationList::from_der(data);
    let value = RevocationList::from_value(&Value::new(0, data.to_vec()));
    if let (Ok(list), Ok(published)) = (&alone, &value) {
        assert_ne!(list, published, "a list is no msgpack");
    }
    if let Ok(list) = alone {
        assert_eq!(RevocationList::from_value(&list.to_value()), Ok(list));
    }
}
