//! The node as a state machine.
