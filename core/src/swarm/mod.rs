//! The repository of a conversation: its commits, who may write which, in what
//! order they are read and what a reader sees.
//!
//! * [`object`]: where objects come from; [`path`]: the layout of the tree;
//! * [`commit`], [`message`]: reading and writing one commit;
//! * [`tree`]: comparing and changing trees; [`merge`]: two histories become one;
//! * [`write`]: every operation as new objects; [`validate`]: every rule, by name;
//! * [`order`]: the one order all members see; [`history`]: edits and reactions folded in;
//! * [`members`]: roles and the profile; [`ballot`]: votes; [`public`]: who comes in uninvited;
//! * [`spread`]: whom to tell of news, from whom to fetch and when, who merges.

pub mod ancestry;
pub mod ballot;
pub mod commit;
pub mod history;
pub mod judge;
pub mod members;
pub mod merge;
pub mod message;
pub mod misbehaviour;
pub mod object;
pub mod order;
pub mod path;
pub mod proof;
pub mod public;
mod rules;
pub mod spread;
pub mod tree;
pub mod validate;
pub mod write;
