//! Stand-in until the real checkpoint floor is merged: only the roles.
pub mod role;
pub use role::{Group, Role};
