//! What stands for TLS in a program without it: nothing that can be made.

use std::time::Duration;

use kio::net::TcpStream;

use super::Files;
use crate::config::{Config, Mistake};
use crate::header::Ends;

pub type TlsStream = TcpStream;

#[derive(Clone)]
pub struct Tls;

pub type Shared = Tls;

#[derive(Clone)]
pub enum Acceptor {}

#[derive(Clone)]
pub enum Connector {}

impl Tls {
    pub fn load(_: &Config, _: &Files) -> Result<Self, Mistake> {
        Ok(Self)
    }

    pub fn acceptor(&self, _listener: usize) -> Option<Acceptor> {
        None
    }

    pub fn connector(&self, _group: usize) -> Option<Connector> {
        None
    }
}

impl Acceptor {
    pub async fn header(&self, _: &mut TcpStream) -> kio::Result<Option<Ends>> {
        match *self {}
    }

    pub async fn accept(&self, _: TcpStream, _: Duration) -> kio::Result<TlsStream> {
        match *self {}
    }
}

impl Connector {
    pub async fn connect(&self, _: TcpStream, _: Duration) -> kio::Result<TlsStream> {
        match *self {}
    }
}

/// Whether real descriptors beside the slots are of use.
pub fn real_fds() -> bool {
    false
}

/// What TLS takes beside what is declared.
pub fn costs() -> &'static str {
    ""
}
