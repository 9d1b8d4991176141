//! TLS in the kernel: putting it under a socket, giving it keys, and what its refusals mean.
//!
//! A socket becomes TLS in two steps. The upper layer protocol "tls" is put under it while plain bytes
//! still pass (they go on to); then each direction is given its keys, and from there on the kernel
//! seals what is sent and opens what is received. Both are `setsockopt(2)` on a real descriptor: as
//! operations of the ring they came with 6.7 only.
//!
//! Keys are lent: the kernel's block is built in this file's stack frame and wiped before it returns.

use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};

/// Version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

/// What seals the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    Chacha20Poly1305,
}

/// Keys of one direction, lent.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub(crate) version: Version,
    pub(crate) cipher: Cipher,
    /// 16 bytes for AES-128, 32 for the others.
    pub(crate) key: &'a [u8],
    pub(crate) iv: &'a [u8; 12],
    /// Number of the next record.
    pub(crate) sequence: u64,
}

/// Which way the records go; the numbers are the kernel's options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(crate) enum Direction {
    Send = 1,
    Recv = 2,
}

pub(crate) const SOL_TLS: i32 = 282;
const TCP_ULP: i32 = 31;

/// Bytes of the largest block: of AES-256-GCM, and as many of ChaCha20-Poly1305.
const BLOCK_MAX: usize = 56;

/// The kernel's description of a direction's keys: `struct tls12_crypto_info_*` of linux/tls.h, that of
/// the cipher. Wiped by [`KeyBlock::wipe`].
#[repr(C, align(8))]
pub(crate) struct KeyBlock {
    bytes: [u8; BLOCK_MAX],
    /// How many of them count; 0 is no keys.
    len: u8,
}

impl KeyBlock {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; BLOCK_MAX], len: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Describes these keys; false, and nothing written, where the key is not as long as the cipher's.
    pub(crate) fn write(&mut self, keys: &Keys<'_>) -> bool {
        let version: u16 = match keys.version {
            Version::Tls12 => 0x0303,
            Version::Tls13 => 0x0304,
        };
        let (cipher, key_len): (u16, usize) = match keys.cipher {
            Cipher::Aes128Gcm => (51, 16),
            Cipher::Aes256Gcm => (52, 32),
            Cipher::Chacha20Poly1305 => (54, 32),
        };
        if keys.key.len() != key_len {
            return false;
        }
        // Of GCM's twelve bytes the first four are the salt, behind the key.
        let (salt, iv) = match keys.cipher {
            Cipher::Chacha20Poly1305 => keys.iv.split_at(0),
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => keys.iv.split_at(4),
        };
        let mut at = 0;
        for part in [
            &version.to_ne_bytes()[..],
            &cipher.to_ne_bytes(),
            iv,
            keys.key,
            salt,
            &keys.sequence.to_be_bytes(),
        ] {
            self.bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.len = at as u8;
        true
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub(crate) fn wipe(&mut self) {
        self.zeroize();
    }
}

impl Zeroize for KeyBlock {
    fn zeroize(&mut self) {
        self.bytes.zeroize();
        self.len.zeroize();
    }
}

/// Why the kernel did not take the protocol or the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// ENOENT: the module is not loaded. The kernel loads it by itself for CAP_NET_ADMIN only.
    NoModule,
    /// ENOTCONN: not connected yet, or not any more.
    NotConnected,
    /// EEXIST: it was done before.
    Twice,
    /// EBUSY: this kernel takes no second keys (6.14 does).
    NoRekey,
    /// ENOENT, EINVAL: this kernel does not know the cipher, or lacks its module.
    NoCipher,
    /// The connection has no real descriptor.
    NoDescriptor,
    /// Sealed bytes were received already: the kernel can't open those.
    ReadAhead,
    /// Bytes that were pushed are not sent: they would be sealed too.
    Unsent,
    /// The worker has stopped.
    Stopped,
    Os(i32),
}

impl Refused {
    const fn of_protocol(errno: i32) -> Self {
        match errno {
            libc::ENOENT | libc::ENOPROTOOPT => Self::NoModule,
            libc::ENOTCONN => Self::NotConnected,
            libc::EEXIST => Self::Twice,
            errno => Self::Os(errno),
        }
    }

    const fn of_keys(errno: i32) -> Self {
        match errno {
            libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP => Self::NoCipher,
            libc::ENOTCONN => Self::NotConnected,
            libc::EBUSY => Self::NoRekey,
            errno => Self::Os(errno),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Other(match refused {
            Refused::NoModule => {
                "kernel TLS: the module is not loaded: `modprobe tls` (and a file in \
                 /etc/modules-load.d), or leave the records to user space"
            }
            Refused::NotConnected => "kernel TLS: the peer has closed the connection",
            Refused::Twice => "kernel TLS: this connection has it already",
            Refused::NoRekey => {
                "kernel TLS: new keys on a running connection need Linux 6.14: close it"
            }
            Refused::NoCipher => {
                "kernel TLS: this kernel lacks the cipher (or its module: gcm, chacha20poly1305)"
            }
            Refused::NoDescriptor => {
                "kernel TLS needs a real descriptor: listen with `real_fds`, connect with `real_fd`"
            }
            Refused::ReadAhead => "kernel TLS: records were received before their keys were set",
            Refused::Unsent => "kernel TLS: bytes that were pushed must be flushed before keys",
            Refused::Stopped => return Self::Stopped,
            Refused::Os(errno) => return Self::os("kernel TLS", errno),
        })
    }
}

/// Puts TLS under a connected socket. Plain bytes pass until keys are set.
pub(crate) fn use_tls(fd: i32) -> core::result::Result<(), Refused> {
    set_option(fd, libc::IPPROTO_TCP, TCP_ULP, b"tls").map_err(Refused::of_protocol)
}

/// Gives one direction its keys.
pub(crate) fn set_keys(
    fd: i32,
    direction: Direction,
    keys: &Keys<'_>,
) -> core::result::Result<(), Refused> {
    let mut block = Zeroizing::new(KeyBlock::new());
    if !block.write(keys) {
        return Err(Refused::NoCipher);
    }
    set_block(fd, direction, &block)
}

/// The same with keys that were described before.
pub(crate) fn set_block(
    fd: i32,
    direction: Direction,
    block: &KeyBlock,
) -> core::result::Result<(), Refused> {
    set_option(fd, SOL_TLS, direction as i32, block.bytes()).map_err(Refused::of_keys)
}

/// Number of the next record in a direction, as the kernel counts.
pub(crate) fn sequence(fd: i32, direction: Direction) -> Result<u64> {
    let option = direction as i32;
    let mut block = Zeroizing::new(KeyBlock::new());
    // The head alone tells the cipher, and so how long the whole is: no other length is answered.
    get_option(fd, option, &mut block.bytes[..4])?;
    let len = match u16::from_ne_bytes([block.bytes[2], block.bytes[3]]) {
        51 => 40,
        52 | 54 => BLOCK_MAX,
        _ => return Err(Error::Other("kernel TLS: an unknown cipher")),
    };
    get_option(fd, option, &mut block.bytes[..len])?;
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&block.bytes[len - 8..len]);
    Ok(u64::from_be_bytes(sequence))
}

fn set_option(fd: i32, level: i32, option: i32, value: &[u8]) -> core::result::Result<(), i32> {
    // SAFETY: the value is valid for reading for the length of the call, which copies it.
    let done = unsafe {
        libc::setsockopt(fd, level, option, value.as_ptr().cast(), value.len() as libc::socklen_t)
    };
    if done == 0 { Ok(()) } else { Err(super::sys::last_errno()) }
}

fn get_option(fd: i32, option: i32, value: &mut [u8]) -> Result<()> {
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: both are valid for writing for the length of the call.
    let done =
        unsafe { libc::getsockopt(fd, SOL_TLS, option, value.as_mut_ptr().cast(), &raw mut len) };
    if done == 0 { Ok(()) } else { Err(Error::os("kernel TLS", super::sys::last_errno())) }
}

/// Sends one record of any type and length at once, as other programs do.
#[cfg(test)]
pub(crate) fn send_record_now(fd: i32, kind: u8, bytes: &[u8]) -> core::result::Result<usize, i32> {
    let mut control = [0u64; 3];
    let entry = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a message is plain data, for which zero is a value.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = (&raw const entry).cast_mut();
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = 24;
    // SAFETY: there is room for a header and one byte in `control`, where the header is written.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = SOL_TLS;
        (*header).cmsg_type = 1;
        (*header).cmsg_len = 17;
        libc::CMSG_DATA(header).write(kind);
    }
    // SAFETY: all of it is valid for reading for the length of the call.
    let sent = unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| super::sys::last_errno())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cipher: Cipher, key: &[u8]) -> KeyBlock {
        let iv = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let mut block = KeyBlock::new();
        let keys = Keys { version: Version::Tls13, cipher, key, iv: &iv, sequence: 0x0102 };
        assert!(block.write(&keys));
        block
    }

    #[test]
    fn a_block_is_laid_out_as_the_kernels() {
        use libc::{
            tls12_crypto_info_aes_gcm_128 as Gcm128, tls12_crypto_info_aes_gcm_256 as Gcm256,
            tls12_crypto_info_chacha20_poly1305 as Chacha,
        };
        let gcm = block(Cipher::Aes128Gcm, &[7; 16]);
        assert_eq!(gcm.bytes().len(), size_of::<Gcm128>());
        assert_eq!(gcm.bytes()[..4], [4, 3, 51, 0]);
        let key = core::mem::offset_of!(Gcm128, key);
        let salt = core::mem::offset_of!(Gcm128, salt);
        let iv = core::mem::offset_of!(Gcm128, iv);
        let sequence = core::mem::offset_of!(Gcm128, rec_seq);
        assert_eq!(gcm.bytes()[key..key + 16], [7; 16]);
        assert_eq!(gcm.bytes()[salt..salt + 4], [1, 2, 3, 4]);
        assert_eq!(gcm.bytes()[iv..iv + 8], [5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(gcm.bytes()[sequence..], [0, 0, 0, 0, 0, 0, 1, 2]);

        let gcm = block(Cipher::Aes256Gcm, &[7; 32]);
        assert_eq!(gcm.bytes().len(), size_of::<Gcm256>());
        assert_eq!(gcm.bytes()[core::mem::offset_of!(Gcm256, salt)], 1);

        let chacha = block(Cipher::Chacha20Poly1305, &[7; 32]);
        assert_eq!(chacha.bytes().len(), size_of::<Chacha>());
        assert_eq!(chacha.bytes()[core::mem::offset_of!(Chacha, key)..][..32], [7; 32]);
        assert_eq!(chacha.bytes()[core::mem::offset_of!(Chacha, iv)], 1);
        assert_eq!(chacha.bytes().len() - 8, core::mem::offset_of!(Chacha, rec_seq));
    }

    #[test]
    fn a_key_of_another_length_is_not_described() {
        let mut block = KeyBlock::new();
        let keys = Keys {
            version: Version::Tls12,
            cipher: Cipher::Aes128Gcm,
            key: &[0; 32],
            iv: &[0; 12],
            sequence: 0,
        };
        assert!(!block.write(&keys));
        assert!(block.is_empty());
    }

    #[test]
    fn a_wiped_block_holds_nothing() {
        let mut block = block(Cipher::Aes256Gcm, &[7; 32]);
        block.wipe();
        assert!(block.is_empty());
        assert_eq!(block.bytes, [0; BLOCK_MAX]);
    }
}
