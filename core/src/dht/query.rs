//! Queries: which values of a key, and which fields of them.

use super::value::Value;
use super::{blob, hash};
use crate::id::InfoHash;
use crate::msgpack;

/// A field of a value that can be selected or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The value's id.
    Id,
    /// The value type.
    Type,
    /// The signer.
    Owner,
    /// The version of a signed value.
    Seq,
    /// The user type.
    UserType,
}

impl Field {
    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Id => 1,
            Self::Type => 2,
            Self::Owner => 3,
            Self::Seq => 4,
            Self::UserType => 5,
        }
    }

    /// The field of a number.
    pub fn from_number(n: u64) -> Option<Self> {
        Some(match n {
            1 => Self::Id,
            2 => Self::Type,
            3 => Self::Owner,
            4 => Self::Seq,
            5 => Self::UserType,
            _ => return None,
        })
    }
}

/// Which fields an answer shall hold. Empty: whole values.
pub type Select = Vec<Field>;

/// One condition. All conditions of a query must hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Where {
    /// The id is.
    Id(u64),
    /// The value type is.
    Type(u16),
    /// The signer's short key id is.
    Owner(InfoHash),
    /// The user type is.
    UserType(String),
}

/// A query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Query {
    /// Wanted fields; empty for whole values.
    pub select: Select,
    /// Conditions, all of which must hold.
    pub wheres: Vec<Where>,
}

/// Why a query is refused. The datagram that carries it is then dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a query that can be answered")]
pub struct BadQuery;

impl Query {
    /// Everything, as whole values.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only some fields of every value.
    pub fn select(fields: &[Field]) -> Self {
        Self {
            select: fields.to_vec(),
            wheres: Vec::new(),
        }
    }

    /// Only the value of an id.
    pub fn id(id: u64) -> Self {
        Self {
            select: Vec::new(),
            wheres: vec![Where::Id(id)],
        }
    }

    /// Whether it asks for everything, and is therefore not written.
    pub fn is_all(&self) -> bool {
        self.select.is_empty() && self.wheres.is_empty()
    }

    /// Whether a value meets all conditions.
    pub fn matches(&self, value: &Value) -> bool {
        self.wheres.iter().all(|w| match w {
            Where::Id(id) => value.id == *id,
            Where::Type(t) => value.type_id() == *t,
            Where::Owner(o) => value.owner_id() == Some(*o),
            Where::UserType(u) => value.user_type() == u,
        })
    }

    /// The msgpack object.
    pub fn to_msgpack(&self) -> msgpack::Value {
        let select = self.select.iter().map(|f| f.number().into()).collect();
        let wheres = self
            .wheres
            .iter()
            .map(|w| {
                let (f, v) = match w {
                    Where::Id(id) => (Field::Id, (*id).into()),
                    Where::Type(t) => (Field::Type, (*t).into()),
                    Where::Owner(o) => (Field::Owner, msgpack::Value::Binary(o.0.to_vec())),
                    Where::UserType(u) => (
                        Field::UserType,
                        msgpack::Value::Binary(u.as_bytes().to_vec()),
                    ),
                };
                msgpack::map([("f", f.number().into()), ("v", v)])
            })
            .collect();
        msgpack::map([
            ("s", msgpack::Value::Array(select)),
            ("w", msgpack::Value::Array(wheres)),
        ])
    }

    /// Reads a query: both members are required, a condition on `seq` is refused.
    pub fn from_msgpack(value: &msgpack::Value) -> Result<Self, BadQuery> {
        let list = |key| {
            msgpack::get(value, key)
                .and_then(msgpack::Value::as_array)
                .ok_or(BadQuery)
        };
        let select = list("s")?
            .iter()
            .map(|n| n.as_u64().and_then(Field::from_number).ok_or(BadQuery))
            .collect::<Result<_, _>>()?;
        let wheres = list("w")?
            .iter()
            .map(|w| {
                let v = msgpack::get(w, "v").ok_or(BadQuery)?;
                let f = msgpack::get(w, "f")
                    .and_then(msgpack::Value::as_u64)
                    .and_then(Field::from_number)
                    .ok_or(BadQuery)?;
                let condition = match f {
                    Field::Id => v.as_u64().map(Where::Id),
                    Field::Type => v
                        .as_u64()
                        .and_then(|t| u16::try_from(t).ok())
                        .map(Where::Type),
                    Field::Owner => hash(v).map(Where::Owner),
                    Field::Seq => None,
                    Field::UserType => blob(v)
                        .and_then(|b| String::from_utf8(b).ok())
                        .map(Where::UserType),
                };
                condition.ok_or(BadQuery)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { select, wheres })
    }
}

/// One field of one value in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// The id.
    Id(u64),
    /// The type.
    Type(u16),
    /// The signer's DER key; for an unsigned value empty or 20 zero bytes; a short
    /// key id from some writers.
    Owner(Vec<u8>),
    /// The version.
    Seq(u16),
    /// The user type.
    UserType(String),
}

impl FieldValue {
    /// The short key id of the signer, of an owner field.
    pub fn owner_id(&self) -> Option<InfoHash> {
        match self {
            Self::Owner(b) if b.iter().all(|x| *x == 0) => None,
            Self::Owner(b) => Some(InfoHash::from_slice(b).unwrap_or_else(|| InfoHash::of(b))),
            _ => None,
        }
    }
}

/// Selected fields of several values (`fileds` on the wire).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldTable {
    /// The columns, ascending.
    pub fields: Vec<Field>,
    /// One row for each value, in the order of the columns.
    pub rows: Vec<Vec<FieldValue>>,
}

impl FieldTable {
    /// The selected fields of some values.
    pub fn of<'a>(select: &[Field], values: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut fields = select.to_vec();
        fields.sort();
        fields.dedup();
        let rows = values
            .into_iter()
            .map(|v| {
                fields
                    .iter()
                    .map(|f| match f {
                        Field::Id => FieldValue::Id(v.id),
                        Field::Type => FieldValue::Type(v.type_id()),
                        Field::Owner => FieldValue::Owner(
                            v.owner()
                                .map_or_else(|| vec![0; InfoHash::LEN], |o| o.to_vec()),
                        ),
                        Field::Seq => FieldValue::Seq(v.seq()),
                        Field::UserType => FieldValue::UserType(v.user_type().to_owned()),
                    })
                    .collect()
            })
            .collect();
        Self { fields, rows }
    }

    /// The id in a row.
    pub fn id(row: &[FieldValue]) -> Option<u64> {
        row.iter().find_map(|f| match f {
            FieldValue::Id(id) => Some(*id),
            _ => None,
        })
    }

    /// The version in a row.
    pub fn seq(row: &[FieldValue]) -> Option<u16> {
        row.iter().find_map(|f| match f {
            FieldValue::Seq(s) => Some(*s),
            _ => None,
        })
    }

    /// The msgpack object.
    pub fn to_msgpack(&self) -> msgpack::Value {
        let fields = self.fields.iter().map(|f| f.number().into()).collect();
        let values = self
            .rows
            .iter()
            .flatten()
            .map(|f| match f {
                FieldValue::Id(id) => (*id).into(),
                FieldValue::Type(t) => (*t).into(),
                FieldValue::Owner(o) => msgpack::Value::Binary(o.clone()),
                FieldValue::Seq(s) => (*s).into(),
                FieldValue::UserType(u) => u.as_str().into(),
            })
            .collect();
        msgpack::map([
            ("f", msgpack::Value::Array(fields)),
            ("v", msgpack::Value::Array(values)),
        ])
    }

    /// Reads the object. An incomplete last row is dropped; an empty list of fields is refused.
    pub fn from_msgpack(value: &msgpack::Value) -> Result<Self, BadQuery> {
        let list = |key| {
            msgpack::get(value, key)
                .and_then(msgpack::Value::as_array)
                .ok_or(BadQuery)
        };
        let mut fields: Vec<Field> = list("f")?
            .iter()
            .map(|n| n.as_u64().and_then(Field::from_number).ok_or(BadQuery))
            .collect::<Result<_, _>>()?;
        fields.sort();
        fields.dedup();
        if fields.is_empty() {
            return Err(BadQuery);
        }
        let rows = list("v")?
            .chunks_exact(fields.len())
            .map(|row| {
                fields
                    .iter()
                    .zip(row)
                    .map(|(f, v)| {
                        let uint16 = || v.as_u64().and_then(|n| u16::try_from(n).ok());
                        match f {
                            Field::Id => v.as_u64().map(FieldValue::Id),
                            Field::Type => uint16().map(FieldValue::Type),
                            Field::Owner => blob(v).map(FieldValue::Owner),
                            Field::Seq => uint16().map(FieldValue::Seq),
                            Field::UserType => blob(v)
                                .and_then(|b| String::from_utf8(b).ok())
                                .map(FieldValue::UserType),
                        }
                        .ok_or(BadQuery)
                    })
                    .collect()
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { fields, rows })
    }
}
