//! Small limits and forbidden system calls: the pool runs, or it says what it needs, what it is
//! allowed and how to raise that. Each test runs again in a process of its own, which gives its
//! rights up.

use std::io::{Read, Write};

use kio::{Error, Handle, StartError, net};
use kio_tests::{again, client, is_child, scaled};

type Result<T = ()> = kio::Result<T>;

// ---- what the tests share ----

/// Runs `body` in a process of its own; false says that it takes rights which are not there.
fn alone(test: &str, body: impl FnOnce() -> bool) {
    if is_child() {
        if !body() {
            println!("skipped: it takes root to become nobody");
        }
        return;
    }
    let ended = again(test).wait_with_output().expect("the child ends");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}");
}

/// Sets both the soft and the hard limit.
fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the call reads one `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

/// Becomes a user without rights; false where that takes more than there is.
fn become_nobody() -> bool {
    const NOBODY: u32 = 65_534;
    // Locked memory is counted by user: one whom no other process is, where this system has such.
    let user = 1_000_000_000 + std::process::id();
    // SAFETY: plain system calls; this process has no other thread that relies on its rights.
    unsafe {
        libc::setgroups(0, core::ptr::null()) == 0
            && libc::setresgid(NOBODY, NOBODY, NOBODY) == 0
            && [user, NOBODY].into_iter().any(|user| libc::setresuid(user, user, user) == 0)
    }
}

/// Answers a system call with an error, for every thread of this process from here on.
fn deny(call: libc::c_long, errno: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut lines = [
        line(LOAD, 0, 0, 0), // the call's number is the first word
        line(JUMP, 0, 1, call as u32),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which is there during the call.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

async fn echo(mut conn: net::TcpStream) -> Result {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    Ok(())
}

/// Serves one client, and ends.
fn serves(pool: Handle<impl kio::__private::Pool>) {
    let mut peer = client(pool.local_addr().expect("listens"));
    peer.write_all(b"hello").expect("sends");
    let mut got = [0; 5];
    peer.read_exact(&mut got).expect("echoes");
    assert_eq!(&got, b"hello");
    pool.stop();
    pool.join().expect("ends");
}

kio::pool! {
    struct Small;
    listen = { "127.0.0.1:0" => echo },
    conns = 8,
    buffers = 16 x 4 KiB,
    pin = off,
}

kio::pool! {
    #[allow(deprecated)] // the declaration warns of its windows
    struct Big;
    workers = 2,
    listen = { "127.0.0.1:0" => echo },
    tasks = { echo: 16 },
    conns = 2000,
    buffers = 4096 x 4 KiB,
    pin = off,
}

// ---- locked memory ----

const _: () = assert!(Big::FOOTPRINT.locked > 64 << 10 && Big::FOOTPRINT.locked < 8 << 20);

/// The pool runs, or tells what is short in numbers that fit.
fn runs_or_tells_memory(started: Result<Handle<impl kio::__private::Pool>>, limit: u64) -> bool {
    match started {
        Ok(pool) => {
            serves(pool);
            true
        }
        Err(Error::Start(error @ StartError::LockedMemory { need, allowed })) => {
            assert_eq!(allowed, limit);
            assert!(need > 0);
            let text = error.to_string();
            let told = format!(
                "the rings need {} KiB and RLIMIT_MEMLOCK allows {} KiB",
                need.div_ceil(1024),
                allowed / 1024
            );
            assert!(text.contains(&told), "{text}");
            assert!(text.contains("ulimit -l"), "{text}");
            false
        }
        Err(error) => panic!("another error: {error}"),
    }
}

#[test]
fn with_64_kib_of_locked_memory_a_pool_runs_or_tells_what_it_needs() {
    alone("with_64_kib_of_locked_memory_a_pool_runs_or_tells_what_it_needs", || {
        limit(libc::RLIMIT_MEMLOCK, 64 << 10, 64 << 10);
        limit(libc::RLIMIT_NOFILE, 1024, 4096);
        if !become_nobody() {
            return false;
        }
        runs_or_tells_memory(Small::start(), 64 << 10);
        let runs = runs_or_tells_memory(Big::start(), 64 << 10);
        // Rings are charged to a user from 6.14 on, and were before 5.12.
        println!("a big pool runs: {runs}");
        // A failed start holds nothing, so it may be tried again.
        runs_or_tells_memory(Big::start(), 64 << 10);
        true
    });
}

#[test]
fn with_8_mib_of_locked_memory_any_usual_pool_runs() {
    alone("with_8_mib_of_locked_memory_any_usual_pool_runs", || {
        limit(libc::RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
        limit(libc::RLIMIT_NOFILE, 1024, 4096);
        if !become_nobody() {
            return false;
        }
        assert!(runs_or_tells_memory(Small::start(), 8 << 20));
        assert!(runs_or_tells_memory(Big::start(), 8 << 20));
        true
    });
}

#[test]
fn a_pool_that_restarts_finds_its_locked_memory_free_again() {
    alone("a_pool_that_restarts_finds_its_locked_memory_free_again", || {
        let allowed = Small::FOOTPRINT.locked * 4;
        limit(libc::RLIMIT_MEMLOCK, allowed, allowed);
        if !become_nobody() {
            return false;
        }
        // Each waits for the last one's: the kernel takes half a second to let go of a ring.
        for _ in 0..scaled(10) {
            serves(Small::start().expect("the last run's rings are gone"));
        }
        true
    });
}

// ---- descriptors ----

#[test]
fn too_few_descriptors_are_told_in_numbers() {
    alone("too_few_descriptors_are_told_in_numbers", || {
        limit(libc::RLIMIT_NOFILE, 1024, 1024);
        match Big::start() {
            Err(Error::Start(error @ StartError::Descriptors { need, allowed })) => {
                assert_eq!(allowed, 1024);
                assert!(need >= 2000, "{need}");
                let text = error.to_string();
                assert!(text.contains(&format!("needs {need}")), "{text}");
                assert!(text.contains("hard limit is 1024"), "{text}");
            }
            Err(error) => panic!("another error: {error}"),
            Ok(_) => panic!("it started"),
        }
        serves(Small::start().expect("a small one has enough"));
        true
    });
}

#[test]
fn a_soft_limit_of_descriptors_is_raised() {
    alone("a_soft_limit_of_descriptors_is_raised", || {
        limit(libc::RLIMIT_NOFILE, 256, 4096);
        serves(Big::start().expect("the hard limit is enough"));
        true
    });
}

// ---- forbidden system calls ----

/// The error of a pool that must not run, from its start or its end.
fn fails(started: Result<Handle<Small>>) -> Error {
    match started {
        Err(error) => error,
        Ok(pool) => pool.join().expect_err("it cannot run"),
    }
}

fn is_forbidden(error: Error) {
    let Error::Start(StartError::Forbidden { seccomp, .. }) = error else {
        panic!("another error: {error}");
    };
    assert!(seccomp, "the filter is there");
    let text = error.to_string();
    assert!(text.contains("EPERM"), "{text}");
    assert!(text.contains("seccomp"), "{text}");
}

#[test]
fn set_up_forbidden_by_seccomp_is_told() {
    alone("set_up_forbidden_by_seccomp_is_told", || {
        deny(libc::SYS_io_uring_setup, libc::EPERM);
        is_forbidden(fails(Small::start()));
        is_forbidden(fails(Small::start()));
        is_forbidden(kio::probe().map(drop).expect_err("no ring"));
        true
    });
}

#[test]
fn entering_forbidden_by_seccomp_is_told() {
    alone("entering_forbidden_by_seccomp_is_told", || {
        deny(libc::SYS_io_uring_enter, libc::EPERM);
        is_forbidden(fails(Small::start()));
        is_forbidden(fails(Small::start()));
        is_forbidden(kio::probe().map(drop).expect_err("no entering"));
        true
    });
}

#[test]
fn registering_forbidden_by_seccomp_is_told() {
    alone("registering_forbidden_by_seccomp_is_told", || {
        deny(libc::SYS_io_uring_register, libc::EPERM);
        is_forbidden(fails(Small::start()));
        is_forbidden(fails(Small::start()));
        true
    });
}

#[test]
fn entering_forbidden_while_the_pool_runs_ends_it_with_an_error() {
    let test = "entering_forbidden_while_the_pool_runs_ends_it_with_an_error";
    alone(test, || {
        let pool = Small::start().expect("starts");
        let addr = pool.local_addr().expect("listens");
        deny(libc::SYS_io_uring_enter, libc::EPERM);
        // Its next enter fails; the client is let go.
        let mut peer = client(addr);
        let _ = peer.write_all(b"hello");
        let error = pool.join().expect_err("it cannot go on");
        assert_eq!(error.errno(), Some(libc::EPERM), "{error}");
        true
    });
}

#[test]
fn a_kernel_without_io_uring_is_told() {
    alone("a_kernel_without_io_uring_is_told", || {
        deny(libc::SYS_io_uring_setup, libc::ENOSYS);
        let error = fails(Small::start());
        assert_eq!(error, Error::Start(StartError::NoIoUring));
        assert!(error.to_string().contains("Linux 6.0"), "{error}");
        true
    });
}
