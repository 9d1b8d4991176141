//! Group commit: syncs of one file that wait at the same time cost one.
//!
//! A sync covers what was written before it began. So one that comes while another runs waits for
//! its end, and all that came meanwhile are carried by the next.
//!
//! The kernel tells a lost write to the next sync of each descriptor, once. Here many share one
//! descriptor, so what one sync was told is told to every later one too: a file whose sync failed is
//! never synced again, and opened anew it has another descriptor.

use super::Request;
use crate::op::Io;

/// Whether a sync with this result has lost what was written.
const fn loses(result: i32) -> bool {
    matches!(-result, libc::EIO | libc::ENOSPC | libc::EDQUOT)
}

impl Io {
    /// Syncs, or waits for the sync that runs.
    pub(super) fn begin_sync(&'static self, request: &'static Request) {
        let index = request.entry.get();
        let entry = self.entry(index);
        if entry.sync_error.get() != 0 {
            self.answer(request, entry.sync_error.get());
            self.entry_done(index);
        } else if entry.syncing.replace(true) {
            entry.to_sync.push(request);
        } else {
            self.files.work.push(request);
        }
    }

    /// A sync is done: for all whom it was for. Who came meanwhile is carried by one more.
    pub(super) fn sync_landed(&'static self, request: &'static Request, result: i32) {
        let index = request.entry.get();
        let entry = self.entry(index);
        let done = core::iter::once(request).chain(core::iter::from_fn(|| entry.synced.pop()));
        let mut count = 0;
        for request in done {
            count += 1;
            self.answer(request, result);
        }
        self.counters().syncs.add(1);
        self.counters().synced.add(count);
        if loses(result) {
            self.sync_failed(index, result);
            // Those who came meanwhile may have written before it failed.
            while let Some(request) = entry.to_sync.pop() {
                count += 1;
                self.answer(request, result);
            }
        }
        match entry.to_sync.pop() {
            None => entry.syncing.set(false),
            Some(leader) => {
                // The strongest of them is what is asked for: the data, or its metadata too.
                let mut data_only = leader.option.get();
                while let Some(request) = entry.to_sync.pop() {
                    data_only &= request.option.get();
                    entry.synced.push(request);
                }
                leader.option.set(data_only);
                self.files.work.push(leader);
            }
        }
        for _ in 0..count {
            self.entry_done(index);
        }
    }
}
