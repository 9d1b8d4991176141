//! What the servers of TLS must do before their speed means anything.

#![cfg(feature = "tls")]

use std::process::Command;

/// Runs `kio-bench compare` with both servers, whose load decrypts and counts every reply.
fn compare(words: &[&str]) {
    let out = Command::new(env!("CARGO_BIN_EXE_kio-bench"))
        .args(["compare", "--servers", "kio-tls,tokio-rustls"])
        .args(["--rounds", "2", "--starts", "1", "--slice-ms", "50", "--connections", "5"])
        .args(words)
        .output()
        .expect("the binary runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("/ tokio-rustls"), "{text}");
}

#[test]
fn every_request_gets_its_reply_in_records() {
    compare(&["--workload", "http"]);
    compare(&["--workload", "http", "--pipeline", "100"]);
}

#[test]
fn what_is_sent_comes_back_whole_whatever_its_size() {
    for size in ["1", "64", "4096", "16384", "100000"] {
        compare(&["--workload", "echo", "--size", size]);
    }
}

#[test]
fn a_connection_of_one_request_ends_after_its_reply() {
    compare(&["--workload", "close"]);
    compare(&["--workload", "close", "--only-shake"]);
}

#[test]
fn a_session_is_resumed_where_that_is_asked_for() {
    compare(&["--workload", "close", "--resume"]);
    compare(&["--workload", "close", "--only-shake", "--resume"]);
}
