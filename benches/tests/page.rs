//! What is drawn and compared must be there before its figures mean anything.

use std::fs;
use std::process::{Command, Output};

fn bench(words: &[&str]) -> Output {
    let out = Command::new(env!("CARGO_BIN_EXE_kio-bench")).args(words).output();
    let out = out.expect("the binary runs");
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

/// Before it measures, `relay` sends 3 MiB each way and compares them.
#[test]
fn every_relay_carries_all_bytes_both_ways() {
    let pace = ["--rounds", "2", "--starts", "1", "--slice-ms", "20"];
    for name in ["limit", "kio", "tokio", "haproxy", "nginx"] {
        let words = ["relay", "--entries", name];
        let all = [&words[..], &pace].concat();
        let out = Command::new(env!("CARGO_BIN_EXE_kio-bench")).args(&all).output();
        let out = out.expect("the binary runs");
        let said = String::from_utf8_lossy(&out.stderr);
        if said.contains("apt install") {
            println!("skipped: {name}: {}", said.trim());
            continue;
        }
        assert!(out.status.success(), "{name}: {said}");
        bench(&[&all[..], &["--workload", "requests"]].concat());
    }
}

#[test]
fn the_page_shows_what_it_drew_and_keeps_nothing_of_the_page_before() {
    let dir = std::env::temp_dir().join(format!("kio-bench-page-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    for stale in ["http-cpu.svg", "proxy-cpu.svg", "README.md"] {
        fs::write(dir.join(stale), "of before").unwrap();
    }
    let out = dir.to_str().expect("a path of text");
    bench(&["page", "--tiny", "--only", "proxy,files", "--out", out]);
    let text = fs::read_to_string(dir.join("README.md")).unwrap();
    let shown = text.split("](").skip(1).filter_map(|part| part.split(')').next());
    let plots: Vec<&str> = shown.filter(|name| name.ends_with(".svg")).collect();
    assert_eq!(plots, ["proxy-cpu.svg", "proxy-rate.svg", "files.svg"]);
    for plot in plots {
        assert!(fs::read_to_string(dir.join(plot)).unwrap().starts_with("<svg"), "{plot}");
    }
    assert!(!dir.join("http-cpu.svg").exists());
    for title in ["### proxy requests, 50", "### proxy bulk, one", "### proxy bulk, 50", "## Files"]
    {
        assert!(text.contains(title), "{title}");
    }
    for name in ["haproxy", "nginx", "fio"] {
        assert!(text.contains(&format!("| {name} |")), "measured or skipped: {name}");
    }
    fs::remove_dir_all(dir).unwrap();
}
