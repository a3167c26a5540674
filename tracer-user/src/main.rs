#![allow(missing_docs, reason = "being written")]
fn main() {}
