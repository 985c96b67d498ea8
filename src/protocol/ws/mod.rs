//! protocol/ws
