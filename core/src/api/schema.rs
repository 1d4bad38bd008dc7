//! JSON schemas, for the bridge's own description of its API (OpenRPC).

use super::message::MessageType;
use super::method::METHODS;
use super::types::LocalAccountId;
use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};
use std::borrow::Cow;

macro_rules! text_schema {
    ($($type:ty, $name:literal, $pattern:literal, $what:literal;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> { $name.into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $what })
            }
        }
    )*};
}

text_schema! {
    AccountId, "JamiId", "^[0-9a-f]{40}$", "The address of a person.";
    DeviceId, "DeviceId", "^[0-9a-f]{64}$", "A device: SHA-256 of its public key.";
    ConversationId, "ConversationId", "^[0-9a-f]{40}$", "The id of a conversation's root commit.";
    ObjectId, "ObjectId", "^[0-9a-f]{40}$", "A commit: the id of a message.";
    LocalAccountId, "LocalAccountId", "^[a-z0-9-]{1,40}$", "The bridge's id of one of its accounts.";
    MessageType, "MessageType", "^.*$", "The type in the commit, for example text/plain.";
}

/// The whole API as an OpenRPC 1.3 document.
pub fn openrpc(version: &str) -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    let event = generator.subschema_for::<super::event::SequencedEvent>();
    let code = generator.subschema_for::<super::error::ErrorCode>();
    let methods: Vec<Value> = METHODS
        .iter()
        .map(|m| {
            let (params, result) = (m.schema)(&mut generator);
            json!({
                "name": m.name,
                "summary": m.summary,
                "paramStructure": "by-name",
                "params": by_name(&generator, &params),
                "result": { "name": "result", "schema": result },
                "x-access": format!("{:?}", m.access),
            })
        })
        .collect();
    let schemas = generator.take_definitions(true);
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "Starling",
            "version": version,
            "description": "One WebSocket at /api, JSON-RPC 2.0, one message a text frame. \
                            The bridge reports events as notifications named \"event\".",
            "license": { "name": "GPL-3.0-or-later" },
        },
        "methods": methods,
        "x-event": event,
        "x-errorCode": code,
        "components": { "schemas": schemas },
    })
}

/// OpenRPC wants one descriptor a parameter.
fn by_name(generator: &SchemaGenerator, params: &Schema) -> Vec<Value> {
    let reference = params.get("$ref").and_then(Value::as_str);
    let resolved = reference
        .and_then(|r| r.rsplit('/').next())
        .and_then(|name| generator.definitions().get(name))
        .unwrap_or(params.as_value());
    let required: Vec<&str> = resolved
        .get("required")
        .and_then(Value::as_array)
        .map(|a| a.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let Some(properties) = resolved.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    properties
        .iter()
        .map(|(name, schema)| {
            json!({ "name": name, "required": required.contains(&name.as_str()), "schema": schema })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_described_and_every_reference_leads_somewhere() {
        let doc = openrpc("0");
        let methods = doc.get("methods").unwrap().as_array().unwrap();
        assert_eq!(methods.len(), METHODS.len());
        let send = methods
            .iter()
            .find(|m| m["name"] == "message.send")
            .unwrap();
        let names: Vec<_> = send["params"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| {
                (
                    p["name"].as_str().unwrap(),
                    p["required"].as_bool().unwrap(),
                )
            })
            .collect();
        assert!(
            names.contains(&("body", true)) && names.contains(&("replyTo", false)),
            "{names:?}"
        );
        let text = doc.to_string();
        for part in text.split("\"$ref\":\"").skip(1) {
            let reference = part.split('"').next().unwrap();
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(doc.pointer(pointer).is_some(), "{reference}");
        }
    }
}
