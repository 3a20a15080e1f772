//! QEMU's gdb stub, as far as it takes to run a machine to a function and to switch the log on there.
//!
//! The protocol is gdb's remote serial protocol: `$text#sum`, each answered with `+` and, in its own
//! time, with a packet.

use crate::failure::{Doing, Failure, Result};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// Time for the stub to listen, and for the machine to come to the function.
const LIMIT: Duration = Duration::from_secs(120);

/// A machine that is stopped.
#[derive(Debug)]
pub struct Stub(TcpStream);

impl Stub {
    /// Connects to a machine that was started stopped, once its stub listens.
    ///
    /// # Errors
    /// If it does not.
    pub fn connect(port: u16) -> Result<Self> {
        let end = Instant::now() + LIMIT;
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(why) if Instant::now() > end => {
                    return Err(Failure::error(format!("QEMU's gdb stub: {why}")));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        let limit = stream.set_read_timeout(Some(LIMIT));
        limit.doing("set a time limit for QEMU's gdb stub")?;
        Ok(Self(stream))
    }

    /// Lets the machine run until it is about to execute the instruction at `address`.
    ///
    /// # Errors
    /// If it does not get there.
    pub fn run_to(&mut self, address: u64) -> Result {
        self.ask(&format!("Z1,{address:x},4"), "OK")?;
        // T05: SIGTRAP.
        self.ask("c", "T05")?;
        self.ask(&format!("z1,{address:x},4"), "OK")
    }

    /// Gives QEMU's monitor a command that prints nothing.
    ///
    /// # Errors
    /// If it does not take it.
    pub fn monitor(&mut self, command: &str) -> Result {
        let digits: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.ask(&format!("qRcmd,{digits}"), "OK")
    }

    /// Lets the machine run.
    ///
    /// # Errors
    /// If it is gone.
    pub fn go_on(&mut self) -> Result {
        self.send("c")
    }

    /// Sends a packet whose answer must begin so.
    fn ask(&mut self, packet: &str, begin: &str) -> Result {
        self.send(packet)?;
        let answer = self.answer()?;
        if answer.starts_with(begin) {
            return Ok(());
        }
        Err(Failure::error(format!(
            "QEMU's gdb stub answered '{packet}' with '{answer}'"
        )))
    }

    fn send(&mut self, packet: &str) -> Result {
        let framed = format!("${packet}#{:02x}", sum(packet.as_bytes()));
        self.0
            .write_all(framed.as_bytes())
            .doing("talk to QEMU's gdb stub")
    }

    /// The next packet, without what is around it.
    fn answer(&mut self) -> Result<String> {
        let mut byte = || -> Result<u8> {
            let mut one = [0];
            self.0.read_exact(&mut one).doing("hear QEMU's gdb stub")?;
            Ok(one[0])
        };
        while byte()? != b'$' {}
        let mut text = Vec::new();
        loop {
            match byte()? {
                b'#' => break,
                other => text.push(other),
            }
        }
        byte()?;
        byte()?;
        self.0.write_all(b"+").doing("talk to QEMU's gdb stub")?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// The checksum of a packet.
fn sum(text: &[u8]) -> u8 {
    text.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn packets_are_framed_and_answers_read() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let machine = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut heard = [0; 13];
            stream.read_exact(&mut heard).unwrap();
            // An acknowledgement, then the answer.
            stream.write_all(b"+$OK#9a").unwrap();
            let mut acknowledged = [0];
            stream.read_exact(&mut acknowledged).unwrap();
            (String::from_utf8_lossy(&heard).into_owned(), acknowledged)
        });
        let mut stub = Stub::connect(port).unwrap();
        assert_eq!(stub.ask("Z1,40,4+z", "OK"), Ok(()));
        let (heard, acknowledged) = machine.join().unwrap();
        assert_eq!(heard, "$Z1,40,4+z#20");
        assert_eq!(acknowledged, *b"+");
    }
}
