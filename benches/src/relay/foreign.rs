//! The proxies of others: haproxy in TCP mode, nginx's stream. Each has one worker, and the buffers and
//! the splicing that it has by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::foreign::{self, Foreign, INHERITED};

/// Where haproxy is, or why it cannot be measured.
pub fn find_haproxy(name: &str) -> Result<PathBuf> {
    foreign::find(name).ok_or_else(|| format!("no `{name}` here (`apt install haproxy`)").into())
}

/// haproxy on one thread, splicing where it thinks that right.
pub fn haproxy(exe: &Path, dir: &Path, upstream: u16) -> Result<Foreign> {
    Foreign::start(dir, "haproxy", |dir, _| {
        let path = dir.join("haproxy.cfg");
        fs::write(
            &path,
            format!(
                "global\n nbthread 1\n maxconn 1000\n tune.pipesize 1048576\n\
                 defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n\
                 \x20option splice-auto\n\
                 listen relay\n bind fd@{INHERITED}\n server up 127.0.0.1:{upstream}\n"
            ),
        )?;
        let mut command = Command::new(exe);
        command.args(["-db", "-q", "-f"]).arg(&path);
        Ok(command)
    })
}

/// nginx, and the module for streams where that is not built in.
#[derive(Clone)]
pub struct Nginx {
    exe: PathBuf,
    module: Option<PathBuf>,
}

impl Nginx {
    /// Where it is, or why it cannot be measured.
    pub fn find(name: &str) -> Result<Self> {
        let hint = "`apt install nginx libnginx-mod-stream`";
        let exe = foreign::find(name).ok_or_else(|| format!("no `{name}` here ({hint})"))?;
        let told = Command::new(&exe).arg("-V").output()?.stderr;
        let told = String::from_utf8_lossy(&told).into_owned();
        let words = || told.split_whitespace();
        if words().any(|word| word == "--with-stream") {
            return Ok(Self { exe, module: None });
        }
        let dir = words().find_map(|word| word.strip_prefix("--modules-path="));
        let module = dir.map(|dir| Path::new(dir).join("ngx_stream_module.so"));
        match module.filter(|module| module.is_file()) {
            Some(module) => Ok(Self { exe, module: Some(module) }),
            None => Err(format!("this nginx has no module for streams ({hint})").into()),
        }
    }

    /// Starts it.
    pub fn start(&self, dir: &Path, upstream: u16) -> Result<Foreign> {
        foreign::nginx(dir, &self.exe, self.module.as_deref(), |_, port| {
            format!(
                "stream {{ server {{ listen 127.0.0.1:{port}; tcp_nodelay on;\n\
                 proxy_pass 127.0.0.1:{upstream}; proxy_timeout 1h; }} }}\n"
            )
        })
    }
}
