use super::*;
use crate::random::Random;

/// Two ends and what is under way between them.
struct World {
    random: Random,
    ends: [End; 2],
}

struct End {
    link: Link,
    /// On its way to this end.
    coming: VecDeque<Vec<u8>>,
    /// How many bytes it has to write.
    total: usize,
    written: usize,
    read: usize,
    ended: bool,
}

/// The byte at a place of the stream that is written at an end.
fn byte(end: usize, at: usize) -> u8 {
    (at.wrapping_mul(31) >> 3) as u8 ^ end as u8
}

impl World {
    fn new(seed: u64, totals: [usize; 2]) -> Self {
        let (listener, welcome) = Link::listener();
        let end = |link, total| End {
            link,
            coming: VecDeque::new(),
            total,
            written: 0,
            read: 0,
            ended: false,
        };
        let mut ends = [end(Link::dialler(), totals[0]), end(listener, totals[1])];
        ends[0].coming.push_back(welcome.to_vec());
        Self { random: Random(seed), ends }
    }

    fn post(&mut self, from: usize, frame: Option<impl AsRef<[u8]>>) {
        let to = &mut self.ends[1 - from];
        to.coming.extend(frame.map(|frame| frame.as_ref().to_vec()));
        let data = |frame: &Vec<u8>| frame.len() - HEADER;
        let under_way: usize = to.coming.iter().map(data).sum();
        let held: usize = to.link.incoming.iter().map(|piece| piece.frame.len() - piece.at).sum();
        assert!((under_way + held) as u64 <= WINDOW, "more is under way than fits");
    }

    /// One end does one thing, by chance; whether there is anything left to do.
    fn step(&mut self) -> bool {
        let at = self.random.below(2) as usize;
        match self.random.below(4) {
            0 => {
                if let Some(frame) = self.ends[at].coming.pop_front() {
                    self.ends[at].link.hear(frame);
                }
            }
            1 => self.read(at),
            _ => self.write(at),
        }
        self.ends.iter().any(|end| !end.ended && end.link.broken.is_none())
    }

    fn read(&mut self, at: usize) {
        let mut buffer = vec![0; 1 + self.random.below(3 * CHUNK as u64) as usize];
        let end = &mut self.ends[at];
        let Ok((read, credit)) = end.link.read(&mut buffer) else { return };
        match read {
            Read::Bytes(len) => {
                let expected = (end.read..end.read + len).map(|place| byte(1 - at, place));
                assert!(
                    buffer[..len].iter().copied().eq(expected),
                    "other bytes than were written"
                );
                end.read += len;
            }
            Read::End => end.ended = true,
            Read::Wait => {}
        }
        self.post(at, credit);
    }

    fn write(&mut self, at: usize) {
        let most = 1 + self.random.below(2 * CHUNK as u64) as usize;
        let end = &mut self.ends[at];
        if end.link.opened() != Ok(true) {
            return;
        }
        let places = end.written..end.total.min(end.written + most);
        let bytes: Vec<u8> = places.map(|place| byte(at, place)).collect();
        end.written += end.link.write(&bytes).unwrap_or_default();
        let frame = end.link.frame().map(<[u8]>::to_vec);
        if frame.is_some() {
            end.link.posted();
        }
        let all = end.written == end.total && !end.link.unsent();
        let finish = if all { end.link.finish() } else { None };
        self.post(at, frame);
        self.post(at, finish);
    }
}

#[test]
fn everything_arrives_in_order_whoever_is_slow() {
    for seed in 0..40 {
        let totals = [seed as usize * 40_000, (40 - seed as usize) * 40_000 + 1];
        let mut world = World::new(seed, totals);
        let mut steps = 0;
        while world.step() {
            steps += 1;
            assert!(steps < 200_000, "seed {seed} stands still");
        }
        for (at, end) in world.ends.iter().enumerate() {
            assert_eq!(end.read, totals[1 - at], "seed {seed}");
        }
        // Both are done, so neither has to tell the other that it is.
        assert!(world.ends.iter_mut().all(|end| end.link.drop().is_none()));
    }
}

#[test]
fn garbage_and_frames_of_others_change_nothing() {
    let mut random = Random(77);
    for seed in 0..20 {
        let mut world = World::new(seed, [700_000, 300_000]);
        while world.step() {
            let end = &mut world.ends[random.below(2) as usize];
            let (received, sent, allowed) = (end.link.received, end.link.sent, end.link.allowed);
            let place = random.next() >> random.below(64);
            let mut frame = match random.below(5) {
                0 => header(Kind::Data, received + 1 + place % 1000).to_vec(),
                1 => header(Kind::Credit, sent + WINDOW + 1 + place % 1000).to_vec(),
                2 => header(Kind::Credit, allowed.saturating_sub(place % 1000)).to_vec(),
                3 => header(Kind::Finish, received + 1 + place % 1000).to_vec(),
                _ => (0..random.below(40)).map(|_| random.next() as u8 | 8).collect(),
            };
            if frame.first() == Some(&(Kind::Data as u8)) {
                frame.resize(HEADER + 1 + random.below(CHUNK as u64 + 10) as usize, 9);
            }
            assert!(!end.link.hear(frame));
        }
        assert_eq!((world.ends[0].read, world.ends[1].read), (300_000, 700_000));
    }
}

#[test]
fn no_more_is_kept_than_the_window() {
    let (mut link, _) = Link::listener();
    let frame = |place| [&header(Kind::Data, place)[..], &[1; CHUNK]].concat();
    let taken = (0..100).take_while(|at| link.hear(frame(at * CHUNK as u64))).count() as u64;
    assert_eq!(taken * CHUNK as u64, WINDOW);
    let mut buffer = vec![0; CREDIT_STEP as usize - 1];
    let read = Read::Bytes(buffer.len());
    assert_eq!(link.read(&mut buffer), Ok((read, None)));
    let (one, credit) = link.read(&mut buffer[..1]).expect("bytes are there");
    assert_eq!((one, credit), (Read::Bytes(1), Some(header(Kind::Credit, WINDOW + CREDIT_STEP))));
    assert!(link.hear(frame(WINDOW)));
}

#[test]
fn wherever_the_other_tab_is_lost_this_end_comes_to_its_end() {
    for seed in 0..200 {
        let mut world = World::new(seed, [400_000, 400_000]);
        for _ in 0..seed * 3 {
            world.step();
        }
        let lost = (seed % 2) as usize;
        let came: usize =
            world.ends[1 - lost].link.incoming.iter().map(|p| p.frame.len() - p.at).sum();
        let before = world.ends[1 - lost].read;
        let complete = world.ends[1 - lost].link.complete;
        world.ends[1 - lost].link.break_off(Broken::Gone);
        while !world.ends[1 - lost].link.incoming.is_empty() {
            world.read(1 - lost);
        }
        let end = &mut world.ends[1 - lost];
        assert_eq!(end.read, before + came, "what had come is read");
        let read = end.link.read(&mut [0; 8]);
        assert_eq!(read, if complete { Ok((Read::End, None)) } else { Err(Broken::Gone) });
        assert_eq!(end.link.write(b"x"), Err(Broken::Gone));
        assert_eq!(end.link.opened(), Err(Broken::Gone));
        assert!(!end.link.hear(header(Kind::Welcome, 0).to_vec()));
        assert_eq!((end.link.finish(), end.link.drop()), (None, None));
    }
}

#[test]
fn an_end_that_is_dropped_says_so_once() {
    let (mut listener, welcome) = Link::listener();
    let mut dialler = Link::dialler();
    assert_eq!(dialler.opened(), Ok(false));
    assert!(dialler.hear(welcome.to_vec()) && !dialler.hear(welcome.to_vec()));
    assert_eq!(dialler.opened(), Ok(true));
    let finish = dialler.finish().expect("said");
    assert!(listener.hear(finish.to_vec()) && dialler.finish().is_none());
    assert_eq!(listener.read(&mut [0]), Ok((Read::End, None)));
    assert_eq!(dialler.write(b"x"), Err(Broken::Reset));
    // The other way is open still.
    assert_eq!(listener.write(b"x"), Ok(1));
    let reset = dialler.drop().expect("said");
    assert_eq!(dialler.drop(), None);
    assert!(listener.hear(reset.to_vec()));
    assert_eq!(listener.write(b"x"), Err(Broken::Reset));
}
