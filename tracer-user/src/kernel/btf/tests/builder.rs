//! Makes BTF.

use crate::kernel::btf::parse::Kind;

/// Name, type, and what stands in the offset word.
pub(super) struct Member(pub(super) &'static str, pub(super) u32, pub(super) u32);

#[derive(Default)]
pub(in crate::kernel) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    pub(super) fn next_id(&self) -> u32 {
        self.count + 1
    }

    pub(super) fn raw(&mut self, name: &str, info: u32, size_or_type: u32, body: &[u32]) -> u32 {
        let name = self.string(name);
        for word in [name, info, size_or_type].iter().chain(body) {
            self.types.extend(word.to_ne_bytes());
        }
        self.count += 1;
        self.count
    }

    pub(super) fn int(&mut self, name: &str) -> u32 {
        self.raw(name, info(Kind::INT, 0), 4, &[32])
    }

    pub(super) fn pointer(&mut self, to: u32) -> u32 {
        self.raw("", info(Kind::PTR, 0), to, &[])
    }

    pub(super) fn array(&mut self, of: u32) -> u32 {
        self.raw("", info(Kind::ARRAY, 0), 0, &[of, of, 4])
    }

    pub(super) fn modifier(&mut self, kind: Kind, name: &str, of: u32) -> u32 {
        self.raw(name, info(kind, 0), of, &[])
    }

    pub(super) fn forward(&mut self, name: &str) -> u32 {
        self.raw(name, info(Kind::FWD, 0), 0, &[])
    }

    pub(super) fn structure(&mut self, name: &str, size: u32, kind_flag: bool, members: &[Member]) -> u32 {
        self.aggregate(info(Kind::STRUCT, members.len()) | u32::from(kind_flag) << 31, name, size, members)
    }

    pub(super) fn union(&mut self, name: &str, size: u32, members: &[Member]) -> u32 {
        self.aggregate(info(Kind::UNION, members.len()), name, size, members)
    }

    pub(super) fn prototype(&mut self, args: &[u32]) -> u32 {
        let body: Vec<_> = args.iter().flat_map(|arg| [0, *arg]).collect();
        self.raw("", info(Kind::FUNC_PROTO, args.len()), 0, &body)
    }

    pub(super) fn function(&mut self, name: &str, prototype: u32) -> u32 {
        self.raw(name, info(Kind::FUNC, 0), prototype, &[])
    }

    pub(in crate::kernel) fn enumeration(
        &mut self,
        name: &str,
        is_signed: bool,
        values: &[(&str, u32)],
    ) -> u32 {
        let body: Vec<_> = values.iter().flat_map(|(name, value)| [self.string(name), *value]).collect();
        self.raw(name, info(Kind::ENUM, values.len()) | u32::from(is_signed) << 31, 4, &body)
    }

    pub(super) fn wide_enumeration(&mut self, name: &str, is_signed: bool, values: &[(&str, u64)]) -> u32 {
        let body: Vec<_> = values
            .iter()
            .flat_map(|(name, value)| [self.string(name), (value & 0xffff_ffff) as u32, (value >> 32) as u32])
            .collect();
        self.raw(name, info(Kind::ENUM64, values.len()) | u32::from(is_signed) << 31, 8, &body)
    }

    pub(in crate::kernel) fn build(&self) -> Vec<u8> {
        self.assemble(None)
    }

    pub(super) fn build_with_layout(&self, layout: &[u8]) -> Vec<u8> {
        self.assemble(Some(layout))
    }

    fn aggregate(&mut self, info: u32, name: &str, size: u32, members: &[Member]) -> u32 {
        let body: Vec<_> =
            members.iter().flat_map(|Member(name, id, offset)| [self.string(name), *id, *offset]).collect();
        self.raw(name, info, size, &body)
    }

    fn string(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len();
        self.strings.extend(text.bytes().chain([0]));
        u32::try_from(at).unwrap()
    }

    fn assemble(&self, layout: Option<&[u8]>) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let (types, strings) = (length(&self.types), length(&self.strings));
        let mut words = vec![0, types, types, strings];
        if let Some(layout) = layout {
            words.extend([types + strings, length(layout)]);
        }
        let mut data = 0xeb9f_u16.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        data.extend(u32::try_from(8 + words.len() * 4).unwrap().to_ne_bytes());
        data.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        for section in [&self.types, &self.strings, layout.unwrap_or_default()] {
            data.extend(section);
        }
        data
    }
}

fn info(kind: Kind, vlen: usize) -> u32 {
    u32::from(kind.0) << 24 | u32::try_from(vlen).unwrap()
}
