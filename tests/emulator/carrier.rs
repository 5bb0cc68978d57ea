//! Who carries the packets, and when? One thread, which takes them from the TUN devices, asks the links when each comes
//! out, and hands it over then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, PipeReader};
use std::num::NonZeroU64;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use avi_links::Link;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::setpriority_process;
use rustix::thread::{gettid, set_current_timer_slack};

use super::report::Report;
use super::tun::{MTU_BYTES, Tun};
use super::{BROADCAST_HOST, Rules, host_of};

/// Packets of one machine before others have their turn.
const BATCH: usize = 32;
/// When an attacker sends again what it has seen.
const REPLAYED_AFTER: Duration = Duration::from_millis(300);
/// Where there is no `chrt`.
const NICE: i32 = -20;

pub struct Carrier {
    tuns: Vec<Tun>,
    links: Vec<Link>,
    rules: Rules,
    epoch: Instant,
    agenda: BinaryHeap<Reverse<Due>>,
    /// Packets of the same moment come out in the order in which they went in.
    next_number: u64,
    report: Report,
}

/// What happens to a packet, and when.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Duration,
    number: u64,
    to: usize,
    stage: Stage,
    packet: Rc<[u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It comes to the receiver's downlink.
    Downlink,
    /// It comes to the receiver.
    Delivery,
}

impl Carrier {
    /// Machine `n` is behind `tuns[n]` and `links[n]`.
    pub fn new(tuns: Vec<Tun>, links: Vec<Link>, rules: Rules) -> Self {
        let (agenda, report) = (BinaryHeap::new(), Report::default());
        Self { tuns, links, rules, epoch: Instant::now(), agenda, next_number: 0, report }
    }

    /// Carries until the other end of `stop` is dropped.
    pub fn run(mut self, stop: &PipeReader) -> io::Result<Report> {
        be_punctual();
        loop {
            let now = self.epoch.elapsed();
            self.settle(now)?;
            // Not before: a link is asked in the order of time.
            for from in 0..self.tuns.len() {
                self.collect(from, now)?;
            }
            if self.wait(stop)? {
                return Ok(self.report);
            }
        }
    }

    /// Whatever is due.
    fn settle(&mut self, now: Duration) -> io::Result<()> {
        while self.agenda.peek().is_some_and(|Reverse(due)| due.at <= now) {
            let Some(Reverse(due)) = self.agenda.pop() else { break };
            match due.stage {
                Stage::Downlink => {
                    let fate = self.links[due.to].down(due.at, due.packet.len());
                    self.report.count(&fate);
                    for at in fate.at.into_iter().chain(fate.again) {
                        self.plan(at, due.to, Stage::Delivery, due.packet.clone());
                    }
                }
                Stage::Delivery => {
                    self.report.delivered(self.epoch.elapsed().saturating_sub(due.at));
                    match self.tuns[due.to].send(&due.packet) {
                        // The device is down.
                        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {}
                        other => other?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Packets that a machine has sent.
    fn collect(&mut self, from: usize, now: Duration) -> io::Result<()> {
        let mut buffer = [0; MTU_BYTES];
        for _ in 0..BATCH {
            let packet: Rc<[u8]> = match self.tuns[from].receive(&mut buffer) {
                Ok(Some(packet)) => packet.into(),
                Ok(None) => break,
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => break,
                Err(error) => return Err(error),
            };
            let Some(host) = host_of(&packet) else { continue };
            let to: Vec<usize> = match host {
                BROADCAST_HOST => (0..self.tuns.len()).filter(|to| *to != from).collect(),
                host => vec![usize::from(host) - 1],
            };
            if to.iter().any(|to| *to >= self.tuns.len()) {
                continue;
            }
            if self.rules.blocks(from, &packet) {
                continue;
            }
            self.report.sent += 1;
            let fate = self.links[from].up(now, packet.len());
            self.report.count(&fate);
            for at in fate.at.into_iter().chain(fate.again) {
                to.iter().for_each(|to| self.plan(at, *to, Stage::Downlink, packet.clone()));
            }
            let forged = self.rules.forge(&packet);
            let again = [REPLAYED_AFTER, 2 * REPLAYED_AFTER].map(|after| (now + after, packet.clone()));
            let again = again.into_iter().filter(|_| !forged.is_empty()).collect::<Vec<_>>();
            for (at, packet) in forged.into_iter().map(|forged| (now, forged)).chain(again) {
                to.iter().for_each(|to| self.plan(at, *to, Stage::Downlink, packet.clone()));
            }
        }
        Ok(())
    }

    fn plan(&mut self, at: Duration, to: usize, stage: Stage, packet: Rc<[u8]>) {
        self.agenda.push(Reverse(Due { at, number: self.next_number, to, stage, packet }));
        self.next_number += 1;
    }

    /// For a packet, or until the next is due. Returns whether to stop.
    fn wait(&self, stop: &PipeReader) -> io::Result<bool> {
        let mut sources: Vec<PollFd> = self.tuns.iter().map(|tun| PollFd::new(tun, PollFlags::IN)).collect();
        sources.push(PollFd::new(stop, PollFlags::IN));
        let left = self.agenda.peek().map(|Reverse(due)| due.at.saturating_sub(self.epoch.elapsed()));
        let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut sources, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(sources.last().is_some_and(|stop| !stop.revents().is_empty()))
    }
}

/// The thread comes before those that it measures, and its timers are exact. It works without, and reports how late it
/// was. It sleeps until there is something to do, so that nobody starves.
fn be_punctual() {
    let _ = setpriority_process(None, NICE);
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    // Of util-linux: a system call that rustix does not have.
    let thread = gettid().as_raw_nonzero().to_string();
    let _ = Command::new("chrt").args(["--fifo", "--pid", "1", &thread]).output();
}
