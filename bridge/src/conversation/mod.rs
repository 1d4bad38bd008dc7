//! Conversations: one actor each, and what travels between members.

