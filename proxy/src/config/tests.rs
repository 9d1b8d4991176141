//! What the file may say, and what is told of its mistakes.

use super::*;

const GOOD: &str = "\
# a proxy
connect-timeout 2s
idle-timeout 1m      # per connection
header-timeout 500ms
window 8
metrics 127.0.0.1:9100
group app balance=least check=2s rise=1 fall=2 wait=3s retries=1 proxy-out=v2
group db balance=client
listen web 127.0.0.1:8080 to app proxy-in
listen pg [::1]:5432 to db
server app 10.0.0.1:80 max=100
server app 10.0.0.2:80
server db 10.0.0.3:5432
";

#[test]
fn every_statement_is_read() {
    let config = Config::parse(GOOD.as_bytes()).expect("it is right");
    assert_eq!(config.connect_timeout, Duration::from_secs(2));
    assert_eq!(config.idle_timeout, Duration::from_secs(60));
    assert_eq!(config.header_timeout, Duration::from_millis(500));
    assert_eq!((config.window, config.groups.len(), config.servers.len()), (8, 2, 3));
    assert!(config.listeners[0].proxy_in && !config.listeners[1].proxy_in);
    let app = &config.groups[0];
    assert_eq!((app.balance, app.rise, app.fall), (Balance::Least, 1, 2));
    assert_eq!((app.retries, app.proxy_out), (1, ProxyOut::V2));
    assert_eq!(config.servers[0].max, 100);
    assert_eq!(config.listeners[1].group, 1);
}

/// What is told of `GOOD` with one line instead of another.
fn told(line: usize, text: &str) -> std::string::String {
    let mut lines: std::vec::Vec<&str> = GOOD.lines().collect();
    lines[line - 1] = text;
    let mistake = Config::parse(lines.join("\n").as_bytes()).expect_err("it is wrong");
    mistake.to_string()
}

#[test]
fn a_mistake_at_each_place_names_its_line_and_cause() {
    for (line, text, cause) in [
        (2, "connect-timeout", "line 2: a time is missing after `connect-timeout`"),
        (2, "connect-timeout 0s", "line 2: `0s` is no time"),
        (3, "idle-timeout 5", "line 3: `5` is no time"),
        (3, "idle-timeout 5s more", "line 3: unknown option `more`"),
        (4, "header-timeout fast", "line 4: `fast` is no time"),
        (5, "window 0", "line 5: `0` is not within 1 to"),
        (4, "header-timeout", "line 4: a time is missing after `header-timeout`"),
        (5, "window", "line 5: a number is missing after `window`"),
        (5, "window many", "line 5: `many` is no number"),
        (6, "metrics here", "line 6: `here` is no address"),
        (6, "metrics localhost:80", "line 6: `localhost:80` is no address"),
        (7, "group", "line 7: a name is missing after `group`"),
        (7, "group app balance=best", "line 7: `best` is no balance"),
        (6, "metrics", "line 6: an address is missing after `metrics`"),
        (7, "group app check", "line 7: `` is no time"),
        (7, "group app check=often", "line 7: `often` is no time"),
        (7, "group app rise=0", "line 7: `0` is not within 1 to 100"),
        (7, "group app fall=x", "line 7: `x` is no number"),
        (7, "group app wait=", "line 7: `` is no time"),
        (7, "group app retries=65", "line 7: `65` is not within 0 to 64"),
        (7, "group app proxy-out=v3", "line 7: `v3` is no PROXY header"),
        (7, "group app colour=red", "line 7: unknown option `colour=red`"),
        (8, "group app", "line 8: `app` is there already"),
        (9, "listen web 127.0.0.1:8080", "line 9: `to GROUP` is missing after `127.0.0.1:8080`"),
        (9, "listen web", "line 9: an address is missing after `web`"),
        (9, "listen", "line 9: a name is missing after `listen`"),
        (9, "listen web 127.0.0.1:8080 app", "line 9: unknown option `app`"),
        (9, "listen web 127.0.0.1:8080 to", "line 9: a group is missing after `to`"),
        (9, "listen web 127.0.0.1:8080 to gone", "line 9: there is no group `gone`"),
        (9, "listen web 127.0.0.1:99999 to app", "line 9: `127.0.0.1:99999` is no address"),
        (9, "listen web 127.0.0.1:1 to app ssl", "line 9: unknown option `ssl`"),
        (10, "listen web 127.0.0.1:1 to db", "line 10: `web` is there already"),
        (10, "listen pg 127.0.0.1:8080 to db", "line 10: `127.0.0.1:8080` is there already"),
        (10, "listen pg 127.0.0.1:9100 to db", "line 10: `127.0.0.1:9100` is there already"),
        (11, "server", "line 11: a group is missing after `server`"),
        (11, "server app", "line 11: an address is missing after `app`"),
        (11, "server nope 10.0.0.1:80", "line 11: there is no group `nope`"),
        (11, "server app 10.0.0.1:80 max=0", "line 11: `0` is not within 1 to"),
        (11, "server app 10.0.0.1:80 min=1", "line 11: unknown option `min=1`"),
        (12, "server app 10.0.0.1:80", "line 12: `10.0.0.1:80` is there already"),
        (13, "serve db 10.0.0.3:5432", "line 13: unknown statement `serve`"),
        (13, "", "the group `db` has no server"),
        (10, "", "the group `db` is used by no listener"),
    ] {
        let told = told(line, text);
        assert!(told.starts_with(cause), "`{text}` is told as: {told}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_mistake_in_what_is_said_of_tls_names_its_line_and_cause() {
    for (line, text, cause) in [
        (7, "group app tls", "line 7: `=NAME`, whom the servers' certificates name, is missing"),
        (7, "group app tls=", "line 7: a name is missing after `tls=`"),
        (7, "group app tls=a", "line 7: `ca=FILE`, whom to trust, is missing after `tls`"),
        (7, "group app tls=a ca=", "line 7: a file is missing after `ca=`"),
        (7, "group app tls=a ca=b tls=c", "line 7: `tls` is there already"),
        (7, "group app tls=a ca=b cert=c", "line 7: `cert=` is of no use without `key=FILE`"),
        (7, "group app ca=b", "line 7: `ca=` is of no use without `tls=NAME`"),
        (7, "group app tls=a ca=b alpn=c,", "line 7: `` is no protocol"),
        (9, "listen web 127.0.0.1:1 to app tls", "line 9: `cert=FILE key=FILE` is missing"),
        (9, "listen web 127.0.0.1:1 to app tls=a", "line 9: a listener takes `tls` without a name"),
        (9, "listen web 127.0.0.1:1 to app tls key=a", "line 9: `key=` is of no use without"),
        (9, "listen web 127.0.0.1:1 to app cert=a", "line 9: `cert=` is of no use without `tls`"),
        (9, "listen web 127.0.0.1:1 to app tls pem=a", "line 9: unknown option `pem=a`"),
        (11, "server app 10.0.0.1:80 tls=a", "line 11: unknown option `tls=a`"),
    ] {
        let told = told(line, text);
        assert!(told.starts_with(cause), "`{text}` is told as: {told}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_tls_what_is_said_of_it_is_a_mistake() {
    for (line, text) in
        [(7, "group app tls=a ca=b"), (9, "listen web 127.0.0.1:1 to app tls cert=a key=b")]
    {
        let told = told(line, text);
        assert!(told.starts_with(&format!("line {line}: `tls")), "`{text}` is told as: {told}");
        assert!(told.ends_with("build it with `--features tls`"), "`{text}` is told as: {told}");
    }
}

#[test]
fn a_file_of_anything_is_refused_and_nothing_else() {
    let long = "group ".to_string() + &"a".repeat(33);
    let mistake = Config::parse(long.as_bytes()).expect_err("it is wrong");
    assert!(matches!(mistake.cause, Cause::LongName));
    let mistake = Config::parse(b"group a\n\xff").expect_err("it is wrong");
    assert_eq!((mistake.line, mistake.cause), (2, Cause::NotText));
    let mistake = Config::parse(b"").expect_err("it is wrong");
    assert_eq!(mistake.cause, Cause::NoListener);
    let mistake = Config::parse(&vec![b'\n'; FILE_MAX + 1]).expect_err("it is wrong");
    assert_eq!(mistake.cause, Cause::TooLong);
    let many: std::string::String = (0..17).map(|n| format!("group g{n}\n")).collect();
    let mistake = Config::parse(many.as_bytes()).expect_err("it is wrong");
    assert_eq!((mistake.line, mistake.cause), (17, Cause::TooMany("groups", 16)));
    for (what, most) in [("listeners", LISTENERS), ("servers", SERVERS)] {
        let line = |n| match what {
            "listeners" => format!("listen l{n} 127.0.0.1:{n} to a\n"),
            _ => format!("server a 127.0.0.1:{n}\n"),
        };
        let many: std::string::String = (1..=most + 1).map(line).collect();
        let text = "group a\n".to_string() + &many;
        let mistake = Config::parse(text.as_bytes()).expect_err("it is wrong");
        assert_eq!((mistake.line, mistake.cause), (most + 2, Cause::TooMany(what, most)));
    }
    let mut random = 7u32;
    for _ in 0..2000 {
        let bytes: std::vec::Vec<u8> = GOOD
            .bytes()
            .map(|byte| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if random >> 24 == 0 { (random >> 8) as u8 } else { byte }
            })
            .collect();
        let _ = Config::parse(&bytes); // and no panic
    }
}

#[test]
fn only_listeners_must_stay() {
    let old = Config::parse(GOOD.as_bytes()).expect("it is right");
    let servers = GOOD.replace("server app 10.0.0.2:80", "server app 10.0.0.9:80 max=3");
    let new = Config::parse(servers.as_bytes()).expect("it is right");
    assert!(new.follows(&old).is_ok());
    let moved = GOOD.replace("127.0.0.1:8080", "127.0.0.1:8081");
    let new = Config::parse(moved.as_bytes()).expect("it is right");
    let mistake = new.follows(&old).expect_err("a listener moved");
    assert_eq!(mistake.cause, Cause::ListenersChanged);
}
