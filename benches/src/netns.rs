//! A network of one's own: loopback and nothing else, with reno, whatever the host has.
//!
//! bbr, a common default, paces even loopback; and what else the host's stack does (filters, tracing of
//! connections) costs each request. A namespace has neither. Entered before any thread is started, it is
//! the children's too.

use std::fs;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::Result;

/// Enters one; as another user than root in a user namespace too.
pub fn enter() -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    let flags = match user.is_root() {
        true => UnshareFlags::NEWNET,
        false => UnshareFlags::NEWNET | UnshareFlags::NEWUSER,
    };
    // SAFETY: descriptors stay shared, and this is the process' only thread.
    unsafe { unshare_unsafe(flags) }
        .map_err(|e| format!("no network namespace ({e}): needs root, or user namespaces"))?;
    if !user.is_root() {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{0} {0} 1", user.as_raw()))?;
        fs::write("/proc/self/gid_map", format!("{0} {0} 1", group.as_raw()))?;
    }
    raise_loopback()?;
    fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno")?;
    Ok(())
}

/// `ip link set lo up`.
fn raise_loopback() -> Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: plain data, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is valid for reading, and names an interface.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    if set < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(()) }
}
