/*
 * The Nitro Enclaves PCI device (1d0f:e4c1) of a parent instance, as Linux's driver (drivers/virt/nitro_enclaves) sees
 * it.
 *
 * The driver writes a request into a buffer and its number into a register. The device answers at once: it fills the
 * reply buffer, counts the reply and raises MSI-X vector 0. Vector 1 says that an enclave has ended on its own; the
 * driver then asks for the state of each of its slots.
 *
 * A slot is an enclave: memory and CPUs of the parent are added to it, then it is started, once. This device checks and
 * records all that as a strict hypervisor would, but runs nothing. At ENCLAVE_START it copies the enclave image out of
 * the slot's memory into a file, from which another program can boot the enclave. CPUs and memory stay usable for the
 * parent, so nothing here isolates an enclave.
 *
 * Properties:
 *   image-dir   folder for images (enclave-CID.eif); without it none is copied
 *   trace       file to which a line is appended for every command that succeeded, and for every crash
 *   crash       write-only (qom-set): ends the running enclave with this CID, as if it had crashed
 *   max-slots, max-regions   limits; a further slot or region is refused
 *
 * What the guest does wrong is answered with the negative errno that its driver returns to the program, and explained
 * with -d guest_errors.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
/* clang-format off */
#include "qemu/osdep.h" /* QEMU wants this one first */
/* clang-format on */
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/bitmap.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/interval-tree.h"
#include "qemu/log.h"
#include "qemu/module.h"
#include "qemu/queue.h"
#include "qemu/units.h"
#include "qom/object.h"

#define TYPE_NITRO_ENCLAVES "ne-pci"
OBJECT_DECLARE_SIMPLE_TYPE(NitroEnclaves, NITRO_ENCLAVES)

enum {
  NE_VENDOR_ID = 0x1d0f,
  NE_DEVICE_ID = 0xe4c1,

  REGISTERS_BAR = 3,
  MSIX_BAR = 4,

  VECTOR_REPLY = 0,
  VECTOR_EVENT = 1,
  VECTORS = 2,
};

/* Registers: offset in the BAR. Each has one access size; the two buffers take any. */
enum {
  REG_ENABLE = 0x000,  /* 1 byte; 0 ends and frees everything */
  REG_VERSION = 0x002, /* 2 bytes; the version of the protocol, chosen by the driver before it enables the device */
  REG_COMMAND = 0x004, /* 4 bytes, write only */
  REG_COUNTS = 0x00c,  /* 4 bytes, read only; low half: replies, high half: events; both wrap around */
  REG_SEND = 0x010,
  REG_RECEIVE = 0x100, /* read only */
  REGISTERS_SIZE = 0x1000,

  BUFFER_SIZE = 240,
  VERSION_MAX = 1,
};

/* The commands' numbers. Their requests are 64-bit words, little-endian; the first one mostly names a slot. */
enum {
  ENCLAVE_START = 1,    /* slot, CID or 0, flags */
  ENCLAVE_GET_SLOT = 2, /* CID */
  ENCLAVE_STOP = 3,     /* slot */
  SLOT_ALLOC = 4,
  SLOT_FREE = 5,     /* slot */
  SLOT_ADD_MEM = 6,  /* slot, address, size */
  SLOT_ADD_VCPU = 7, /* slot, CPU's number (32 bits) */
  SLOT_COUNT = 8,
  NEXT_SLOT = 9,            /* slot, or any number: the next greater slot is the answer */
  SLOT_INFO = 10,           /* slot */
  SLOT_ADD_BULK_VCPUS = 11, /* slot, number of CPUs that the device chooses */
  REQUEST_WORDS = 3,
};

typedef struct QEMU_PACKED Reply {
  int32_t rc;
  uint8_t padding0[4];
  uint64_t slot_uid;
  uint64_t enclave_cid;
  uint64_t slot_count;
  uint64_t mem_regions;
  uint64_t mem_size;
  uint64_t nr_vcpus;
  uint64_t flags;
  uint16_t state;
  uint8_t padding1[6];
} Reply;
QEMU_BUILD_BUG_ON(sizeof(Reply) != 72);
QEMU_BUILD_BUG_ON(sizeof(Reply) > BUFFER_SIZE);

/* The driver's own numbers; it compares them with the reply to SLOT_INFO. */
enum { STATE_INIT = 0, STATE_RUNNING = 2, STATE_STOPPED = 0xffff };

enum { CID_PARENT = 3, CID_FIRST_CHOSEN = 16, FLAG_DEBUG = 1 };

#define REGION_ALIGNMENT (2 * MiB)
#define MIN_ENCLAVE_MEMORY (64 * MiB)
#define IMAGE_OFFSET (8 * MiB) /* in the enclave's memory; the driver tells programs to put the image there */
#define COPY_CHUNK (1 * MiB)
/* Slots are numbered from here, so that a number has 16 digits as on EC2, where it is part of the enclave's name. */
#define FIRST_UID 0x19a0000000000001ULL

/* The header of an enclave image; all numbers are big-endian. Each section follows a header of its own. */
enum {
  EIF_SECTION_COUNT = 26,
  EIF_OFFSETS = 28,
  EIF_SIZES = 284,
  EIF_HEADER_SIZE = 548,
  EIF_MAX_SECTIONS = 32,
  EIF_SECTION_HEADER_SIZE = 12,
};

typedef struct Region {
  IntervalTreeNode range; /* physical addresses of the parent; in NitroEnclaves::regions */
  QSIMPLEQ_ENTRY(Region) next;
} Region;

typedef struct Slot {
  uint64_t uid;
  uint64_t cid; /* 0 until the enclave is started; kept, and so in use, until the slot is freed */
  uint64_t flags;
  uint64_t memory; /* bytes in all regions */
  uint32_t region_count;
  uint16_t state;
  unsigned long* vcpus;                   /* by number of the CPU */
  QSIMPLEQ_HEAD(Regions, Region) regions; /* in the order in which the enclave sees them */
  QTAILQ_ENTRY(Slot) next;
} Slot;

struct NitroEnclaves {
  PCIDevice parent_obj;

  MemoryRegion registers;
  bool enabled;
  uint16_t version;
  uint16_t replies;
  uint16_t events;
  uint8_t send[BUFFER_SIZE];
  uint8_t receive[BUFFER_SIZE];

  QTAILQ_HEAD(, Slot) slots; /* by ascending uid */
  uint64_t slot_count;
  uint64_t next_uid;        /* never used again, not even after a reset */
  IntervalTreeRoot regions; /* of all slots */
  unsigned long* vcpus;     /* of all slots */
  const char* command;      /* that is being executed, for messages */

  char* image_dir;
  char* trace;
  FILE* trace_file;
  uint32_t max_slots;
  uint32_t max_regions;
};

static void G_GNUC_PRINTF(2, 3) trace_line(NitroEnclaves* s, const char* format, ...) {
  va_list arguments;

  if (!s->trace_file) {
    return;
  }
  va_start(arguments, format);
  vfprintf(s->trace_file, format, arguments);
  va_end(arguments);
  fputc('\n', s->trace_file);
  if (fflush(s->trace_file) != 0) {
    warn_report_once("%s: %s: %s", TYPE_NITRO_ENCLAVES, s->trace, strerror(errno));
    clearerr(s->trace_file);
  }
}

/* Returns -error, which the driver hands to the program. These are Linux's numbers, as QEMU runs on Linux here. */
static int G_GNUC_PRINTF(3, 4) refuse(NitroEnclaves* s, int error, const char* format, ...) {
  g_autofree char* reason = NULL;
  va_list arguments;

  va_start(arguments, format);
  reason = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  qemu_log_mask(LOG_GUEST_ERROR, "%s: %s refused (%s): %s\n", TYPE_NITRO_ENCLAVES, s->command, strerror(error), reason);
  return -error;
}

/* ---- Slots ------------------------------------------------------------------------------------------------------- */

static uint32_t machine_cpus(void) {
  return MACHINE(qdev_get_machine())->smp.max_cpus;
}

static Slot* slot_by_uid(NitroEnclaves* s, uint64_t uid) {
  Slot* slot;

  QTAILQ_FOREACH(slot, &s->slots, next) {
    if (slot->uid == uid) {
      return slot;
    }
  }
  return NULL;
}

static Slot* slot_by_cid(NitroEnclaves* s, uint64_t cid) {
  Slot* slot;

  QTAILQ_FOREACH(slot, &s->slots, next) {
    if (slot->cid == cid && cid != 0) {
      return slot;
    }
  }
  return NULL;
}

static void slot_stop(NitroEnclaves* s, Slot* slot) {
  slot->state = STATE_STOPPED;
  trace_line(s, "STOP cid=%" PRIu64, slot->cid);
}

static void slot_free(NitroEnclaves* s, Slot* slot) {
  Region* region;

  while ((region = QSIMPLEQ_FIRST(&slot->regions))) {
    QSIMPLEQ_REMOVE_HEAD(&slot->regions, next);
    interval_tree_remove(&region->range, &s->regions);
    g_free(region);
  }
  bitmap_andnot(s->vcpus, s->vcpus, slot->vcpus, machine_cpus());
  g_free(slot->vcpus);
  QTAILQ_REMOVE(&s->slots, slot, next);
  s->slot_count--;
  g_free(slot);
  trace_line(s, "SLOT_FREE");
}

static void free_all_slots(NitroEnclaves* s) {
  Slot *slot, *following;

  QTAILQ_FOREACH_SAFE(slot, &s->slots, next, following) {
    if (slot->state == STATE_RUNNING) {
      slot_stop(s, slot);
    }
    slot_free(s, slot);
  }
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

/* Whether the parent has memory, and nothing but memory, at these addresses. `size` is not 0; the sum fits. */
static bool is_ram(uint64_t address, uint64_t size) {
  while (size > 0) {
    MemoryRegionSection section = memory_region_find(get_system_memory(), address, size);
    uint64_t length = int128_get64(section.size);
    bool good;

    if (!section.mr) {
      return false;
    }
    good = section.offset_within_address_space == address && memory_region_is_ram(section.mr) && !section.readonly &&
           !memory_region_is_ram_device(section.mr);
    memory_region_unref(section.mr);
    if (!good) {
      return false;
    }
    address += length;
    size -= length;
  }
  return true;
}

/* Reads the enclave's memory, which is its regions one after the other. */
static bool slot_read(Slot* slot, uint64_t offset, uint8_t* buffer, uint64_t size) {
  Region* region;

  QSIMPLEQ_FOREACH(region, &slot->regions, next) {
    uint64_t region_size = region->range.last - region->range.start + 1;
    uint64_t address, length;

    if (offset >= region_size) {
      offset -= region_size;
      continue;
    }
    address = region->range.start + offset;
    length = MIN(size, region_size - offset);
    if (address_space_read(&address_space_memory, address, MEMTXATTRS_UNSPECIFIED, buffer, length) != MEMTX_OK) {
      return false;
    }
    buffer += length;
    size -= length;
    offset = 0;
    if (size == 0) {
      return true;
    }
  }
  return false;
}

/* The size of the image in the enclave's memory, according to its header; 0 and *why if there is none. */
static uint64_t image_size(Slot* slot, const char** why) {
  uint8_t header[EIF_HEADER_SIZE];
  uint64_t room, end = EIF_HEADER_SIZE;
  unsigned count;

  if (slot->memory < IMAGE_OFFSET + sizeof(header) || !slot_read(slot, IMAGE_OFFSET, header, sizeof(header)) ||
      memcmp(header, ".eif", 4) != 0) {
    *why = "no image";
    return 0;
  }
  room = slot->memory - IMAGE_OFFSET;
  count = lduw_be_p(header + EIF_SECTION_COUNT);
  if (count == 0 || count > EIF_MAX_SECTIONS) {
    *why = "an image with a wrong number of sections";
    return 0;
  }
  for (unsigned i = 0; i < count; i++) {
    uint64_t start = ldq_be_p(header + EIF_OFFSETS + 8 * i);
    uint64_t size = ldq_be_p(header + EIF_SIZES + 8 * i);

    /* No sum can wrap around: the enclave's memory is smaller than 2^63. */
    if (start < EIF_HEADER_SIZE || start > room || size > room || start + EIF_SECTION_HEADER_SIZE + size > room) {
      *why = "an image with a section outside the enclave's memory";
      return 0;
    }
    end = MAX(end, start + EIF_SECTION_HEADER_SIZE + size);
  }
  return end;
}

static bool copy_image(Slot* slot, uint64_t size, const char* path, Error** errp) {
  g_autofree uint8_t* buffer = g_malloc(COPY_CHUNK);
  int file = qemu_create(path, O_WRONLY | O_TRUNC, 0644, errp);
  uint64_t length;

  if (file < 0) {
    return false;
  }
  for (uint64_t done = 0; done < size; done += length) {
    length = MIN(size - done, COPY_CHUNK);
    if (!slot_read(slot, IMAGE_OFFSET + done, buffer, length)) {
      error_setg(errp, "the enclave's memory at %" PRIu64 " cannot be read", (uint64_t)(IMAGE_OFFSET + done));
      close(file);
      return false;
    }
    if (qemu_write_full(file, buffer, length) != length) {
      error_setg_errno(errp, errno, "writing %s", path);
      close(file);
      return false;
    }
  }
  if (close(file) != 0) {
    error_setg_errno(errp, errno, "writing %s", path);
    return false;
  }
  return true;
}

/*
 * Puts the enclave's image into image-dir. The last line of the trace says how many bytes: 0 if the memory has no image
 * to boot from, and then there is no file, not even that of an earlier enclave with this CID.
 */
static void save_image(NitroEnclaves* s, Slot* slot) {
  g_autofree char *path = NULL, *partial = NULL;
  const char* why = NULL;
  Error* error = NULL;
  uint64_t size;

  if (!s->image_dir) {
    return;
  }
  path = g_strdup_printf("%s/enclave-%" PRIu64 ".eif", s->image_dir, slot->cid);
  partial = g_strdup_printf("%s.partial", path);
  size = image_size(slot, &why);
  if (size == 0) {
    trace_line(s, "NO_IMAGE %s at %" PRIu64 " MiB", why, (uint64_t)(IMAGE_OFFSET / MiB));
    unlink(path);
  } else if (!copy_image(slot, size, partial, &error) || rename(partial, path) != 0) {
    if (!error) {
      error_setg_errno(&error, errno, "renaming %s", partial);
    }
    trace_line(s, "NO_IMAGE %s", error_get_pretty(error));
    warn_report_err(error);
    unlink(partial);
    unlink(path);
    size = 0;
  }
  trace_line(s, "IMAGE %" PRIu64 " bytes", size);
}

/* ---- Commands ---------------------------------------------------------------------------------------------------- */

/* `slot`: the one that the request names, of commands that take one; others set it to the one they answer about. */
typedef int Handler(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot);

static int slot_alloc(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  Slot* created;

  if (s->slot_count >= s->max_slots) {
    return refuse(s, ENOSPC, "there are %" PRIu64 " slots, the most possible", s->slot_count);
  }
  created = g_new0(Slot, 1);
  created->uid = s->next_uid++;
  created->state = STATE_INIT;
  created->vcpus = bitmap_new(machine_cpus());
  QSIMPLEQ_INIT(&created->regions);
  QTAILQ_INSERT_TAIL(&s->slots, created, next);
  s->slot_count++;
  trace_line(s, "SLOT_ALLOC");
  *slot = created;
  return 0;
}

static int slot_release(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  if ((*slot)->state == STATE_RUNNING) {
    return refuse(s, EBUSY, "the enclave runs");
  }
  slot_free(s, *slot);
  *slot = NULL;
  return 0;
}

static int slot_add_memory(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  uint64_t address = request[1], size = request[2];
  Region* region;

  if ((*slot)->state != STATE_INIT) {
    return refuse(s, EINVAL, "the enclave has been started");
  }
  if (size == 0 || !QEMU_IS_ALIGNED(size, REGION_ALIGNMENT) || !QEMU_IS_ALIGNED(address, REGION_ALIGNMENT)) {
    return refuse(s, EINVAL, "%#" PRIx64 " bytes at %#" PRIx64 " are not whole pieces of 2 MiB", size, address);
  }
  if (address + size < address) {
    return refuse(s, EINVAL, "%#" PRIx64 " bytes at %#" PRIx64 " wrap around", size, address);
  }
  if ((*slot)->region_count >= s->max_regions) {
    return refuse(s, ENOSPC, "the slot has %" PRIu32 " memory regions, the most possible", (*slot)->region_count);
  }
  if (!is_ram(address, size)) {
    return refuse(s, EINVAL, "the parent has no memory of %#" PRIx64 " bytes at %#" PRIx64, size, address);
  }
  if (interval_tree_iter_first(&s->regions, address, address + size - 1)) {
    return refuse(s, EBUSY, "of %#" PRIx64 " bytes at %#" PRIx64 ", some belong to an enclave", size, address);
  }
  region = g_new0(Region, 1);
  region->range.start = address;
  region->range.last = address + size - 1;
  interval_tree_insert(&region->range, &s->regions);
  QSIMPLEQ_INSERT_TAIL(&(*slot)->regions, region, next);
  (*slot)->region_count++;
  (*slot)->memory += size;
  trace_line(s, "ADD_MEM size=%" PRIu64 "M", (uint64_t)(size / MiB));
  return 0;
}

static int slot_add_vcpu(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  uint32_t cpu = request[1];

  if ((*slot)->state != STATE_INIT) {
    return refuse(s, EINVAL, "the enclave has been started");
  }
  /* CPU 0 boots the parent, and the driver never gives it away: there its number stands for any CPU. */
  if (cpu == 0 || cpu >= machine_cpus() || !qemu_get_cpu(cpu)) {
    return refuse(s, EINVAL, "the parent has no CPU %" PRIu32 " to give", cpu);
  }
  if (test_and_set_bit(cpu, s->vcpus)) {
    return refuse(s, EBUSY, "CPU %" PRIu32 " belongs to an enclave", cpu);
  }
  set_bit(cpu, (*slot)->vcpus);
  trace_line(s, "ADD_VCPU %" PRIu32, cpu);
  return 0;
}

static int slot_add_bulk_vcpus(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  uint64_t wanted = request[1], free_cpus = 0;

  if ((*slot)->state != STATE_INIT) {
    return refuse(s, EINVAL, "the enclave has been started");
  }
  for (uint32_t cpu = 1; cpu < machine_cpus(); cpu++) {
    free_cpus += !test_bit(cpu, s->vcpus) && qemu_get_cpu(cpu);
  }
  if (wanted == 0 || wanted > free_cpus) {
    return refuse(s, EINVAL, "%" PRIu64 " CPUs are wanted of %" PRIu64, wanted, free_cpus);
  }
  /* From the end: a core's threads have adjacent numbers, and CPU 0 keeps its siblings as long as possible. */
  for (uint32_t cpu = machine_cpus() - 1, left = wanted; left > 0; cpu--) {
    if (!test_bit(cpu, s->vcpus) && qemu_get_cpu(cpu)) {
      set_bit(cpu, s->vcpus);
      set_bit(cpu, (*slot)->vcpus);
      left--;
    }
  }
  trace_line(s, "ADD_BULK_VCPUS %" PRIu64, wanted);
  return 0;
}

/* Threads of one core share what side channels need, so a core belongs to one enclave or to none. */
static bool has_whole_cores(Slot* slot) {
  uint32_t cpus = machine_cpus(), threads = MACHINE(qdev_get_machine())->smp.threads;

  for (uint32_t core = 0; core + threads <= cpus; core += threads) {
    uint32_t owned = 0;

    for (uint32_t cpu = core; cpu < core + threads; cpu++) {
      owned += test_bit(cpu, slot->vcpus);
    }
    if (owned != 0 && owned != threads) {
      return false;
    }
  }
  return true;
}

static int enclave_start(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  uint64_t cid = request[1], flags = request[2];
  long vcpus = bitmap_count_one((*slot)->vcpus, machine_cpus());

  if ((*slot)->state != STATE_INIT) {
    return refuse(s, EINVAL, "the enclave has been started before");
  }
  if ((*slot)->memory < MIN_ENCLAVE_MEMORY) {
    return refuse(s, EINVAL, "the enclave has %" PRIu64 " bytes of memory", (*slot)->memory);
  }
  if (vcpus == 0 || !has_whole_cores(*slot)) {
    return refuse(s, EINVAL, "%ld CPUs, which have to be whole cores", vcpus);
  }
  if (flags & ~(uint64_t)FLAG_DEBUG) {
    return refuse(s, EINVAL, "unknown flags %#" PRIx64, flags);
  }
  if (cid == 0) {
    for (cid = CID_FIRST_CHOSEN; slot_by_cid(s, cid); cid++) {
    }
  } else if (cid <= CID_PARENT || cid >= UINT32_MAX) {
    return refuse(s, EINVAL, "no enclave can have the CID %" PRIu64, cid);
  } else if (slot_by_cid(s, cid)) {
    return refuse(s, EINVAL, "another enclave has the CID %" PRIu64, cid);
  }
  (*slot)->cid = cid;
  (*slot)->flags = flags;
  (*slot)->state = STATE_RUNNING;
  trace_line(s, "START cid=%" PRIu64 " flags=%" PRIu64 " vcpus=%ld regions=%" PRIu32 " mem=%" PRIu64 "M", cid, flags,
             vcpus, (*slot)->region_count, (uint64_t)((*slot)->memory / MiB));
  save_image(s, *slot);
  return 0;
}

/* Also for an enclave that has ended on its own: the driver may send this before it has seen that. */
static int enclave_stop(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  if ((*slot)->state == STATE_INIT) {
    return refuse(s, EINVAL, "the enclave has not been started");
  }
  slot_stop(s, *slot);
  return 0;
}

static int enclave_get_slot(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  *slot = slot_by_cid(s, request[0]);
  return *slot ? 0 : refuse(s, ENOENT, "no enclave has the CID %" PRIu64, request[0]);
}

static int next_slot(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  Slot* candidate;

  QTAILQ_FOREACH(candidate, &s->slots, next) {
    if (candidate->uid > request[0]) {
      *slot = candidate;
      return 0;
    }
  }
  return refuse(s, ENOENT, "%#" PRIx64 " is the last slot", request[0]);
}

static int nothing_to_do(NitroEnclaves* s, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  return 0;
}

static const struct {
  const char* name;
  bool takes_slot;
  Handler* handler;
} commands[] = {
    [ENCLAVE_START] = {"ENCLAVE_START", true, enclave_start},
    [ENCLAVE_GET_SLOT] = {"ENCLAVE_GET_SLOT", false, enclave_get_slot},
    [ENCLAVE_STOP] = {"ENCLAVE_STOP", true, enclave_stop},
    [SLOT_ALLOC] = {"SLOT_ALLOC", false, slot_alloc},
    [SLOT_FREE] = {"SLOT_FREE", true, slot_release},
    [SLOT_ADD_MEM] = {"SLOT_ADD_MEM", true, slot_add_memory},
    [SLOT_ADD_VCPU] = {"SLOT_ADD_VCPU", true, slot_add_vcpu},
    [SLOT_COUNT] = {"SLOT_COUNT", false, nothing_to_do},
    [NEXT_SLOT] = {"NEXT_SLOT", false, next_slot},
    [SLOT_INFO] = {"SLOT_INFO", true, nothing_to_do},
    [SLOT_ADD_BULK_VCPUS] = {"SLOT_ADD_BULK_VCPUS", true, slot_add_bulk_vcpus},
};

static int execute(NitroEnclaves* s, uint32_t command, const uint64_t request[REQUEST_WORDS], Slot** slot) {
  bool known = command < ARRAY_SIZE(commands) && commands[command].handler;

  s->command = known ? commands[command].name : "command";
  if (!s->enabled) {
    return refuse(s, EIO, "the device is not enabled");
  }
  if (!known) {
    return refuse(s, EINVAL, "there is no command %" PRIu32, command);
  }
  if (commands[command].takes_slot) {
    *slot = slot_by_uid(s, request[0]);
    if (!*slot) {
      return refuse(s, EINVAL, "there is no slot %#" PRIx64, request[0]);
    }
  }
  return commands[command].handler(s, request, slot);
}

static void answer(NitroEnclaves* s, uint32_t command) {
  uint64_t request[REQUEST_WORDS];
  Reply reply = {0};
  Slot* slot = NULL;
  int rc;

  for (unsigned i = 0; i < REQUEST_WORDS; i++) {
    request[i] = ldq_le_p(s->send + 8 * i);
  }
  rc = execute(s, command, request, &slot);
  reply.rc = cpu_to_le32(rc);
  reply.slot_count = cpu_to_le64(s->slot_count);
  if (rc == 0 && slot) {
    reply.slot_uid = cpu_to_le64(slot->uid);
    reply.enclave_cid = cpu_to_le64(slot->cid);
    /* The reply to SLOT_ALLOC says how many are possible. */
    reply.mem_regions = cpu_to_le64(command == SLOT_ALLOC ? s->max_regions : slot->region_count);
    reply.mem_size = cpu_to_le64(slot->memory);
    reply.nr_vcpus = cpu_to_le64(bitmap_count_one(slot->vcpus, machine_cpus()));
    reply.flags = cpu_to_le64(slot->flags);
    reply.state = cpu_to_le16(slot->state);
  }
  memset(s->receive, 0, sizeof(s->receive));
  memcpy(s->receive, &reply, sizeof(reply));
  s->replies++;
  msix_notify(PCI_DEVICE(s), VECTOR_REPLY);
}

/* ---- Registers --------------------------------------------------------------------------------------------------- */

static uint64_t registers_read(void* opaque, hwaddr address, unsigned size) {
  NitroEnclaves* s = opaque;

  if (address == REG_ENABLE && size == 1) {
    return s->enabled;
  }
  if (address == REG_VERSION && size == 2) {
    return s->version;
  }
  if (address == REG_COUNTS && size == 4) {
    return (uint32_t)s->events << 16 | s->replies;
  }
  if (address >= REG_SEND && address + size <= REG_SEND + BUFFER_SIZE) {
    return ldn_le_p(s->send + (address - REG_SEND), size);
  }
  if (address >= REG_RECEIVE && address + size <= REG_RECEIVE + BUFFER_SIZE) {
    return ldn_le_p(s->receive + (address - REG_RECEIVE), size);
  }
  qemu_log_mask(LOG_GUEST_ERROR, "%s: reading %u bytes at %#" HWADDR_PRIx "\n", TYPE_NITRO_ENCLAVES, size, address);
  return 0;
}

static void registers_write(void* opaque, hwaddr address, uint64_t value, unsigned size) {
  NitroEnclaves* s = opaque;

  if (address == REG_ENABLE && size == 1 && value == 0) {
    s->enabled = false;
    free_all_slots(s);
  } else if (address == REG_ENABLE && size == 1 && value == 1 && s->version != 0) {
    s->enabled = true;
  } else if (address == REG_VERSION && size == 2 && !s->enabled) {
    s->version = MIN(value, VERSION_MAX);
  } else if (address == REG_COMMAND && size == 4) {
    answer(s, value);
  } else if (address >= REG_SEND && address + size <= REG_SEND + BUFFER_SIZE) {
    stn_le_p(s->send + (address - REG_SEND), size, value);
  } else {
    qemu_log_mask(LOG_GUEST_ERROR, "%s: writing %#" PRIx64 ", %u bytes, at %#" HWADDR_PRIx "\n", TYPE_NITRO_ENCLAVES,
                  value, size, address);
  }
}

static const MemoryRegionOps registers_ops = {
    .read = registers_read,
    .write = registers_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {.min_access_size = 1, .max_access_size = 8},
    .impl = {.min_access_size = 1, .max_access_size = 8},
};

/* ---- The device -------------------------------------------------------------------------------------------------- */

static void set_crash(Object* object, Visitor* visitor, const char* name, void* opaque, Error** errp) {
  NitroEnclaves* s = NITRO_ENCLAVES(object);
  Slot* slot;
  uint64_t cid;

  if (!visit_type_uint64(visitor, name, &cid, errp)) {
    return;
  }
  slot = DEVICE(s)->realized ? slot_by_cid(s, cid) : NULL;
  if (!slot || slot->state != STATE_RUNNING) {
    error_setg(errp, "no enclave with the CID %" PRIu64 " runs", cid);
    return;
  }
  slot->state = STATE_STOPPED;
  s->events++;
  trace_line(s, "CRASH cid=%" PRIu64, cid);
  msix_notify(PCI_DEVICE(s), VECTOR_EVENT);
}

static void reset_hold(Object* object, ResetType type) {
  NitroEnclaves* s = NITRO_ENCLAVES(object);

  free_all_slots(s);
  s->enabled = false;
  s->version = 0;
  s->replies = 0;
  s->events = 0;
  memset(s->send, 0, sizeof(s->send));
  memset(s->receive, 0, sizeof(s->receive));
}

static void realize(PCIDevice* device, Error** errp) {
  NitroEnclaves* s = NITRO_ENCLAVES(device);

  if (s->image_dir && !g_file_test(s->image_dir, G_FILE_TEST_IS_DIR)) {
    error_setg(errp, "image-dir: %s is not a folder", s->image_dir);
    return;
  }
  if (msix_init_exclusive_bar(device, VECTORS, MSIX_BAR, errp) != 0) {
    return;
  }
  if (s->trace) {
    s->trace_file = fopen(s->trace, "ae");
    if (!s->trace_file) {
      error_setg_file_open(errp, errno, s->trace);
      msix_uninit_exclusive_bar(device);
      return;
    }
  }
  msix_vector_use(device, VECTOR_REPLY);
  msix_vector_use(device, VECTOR_EVENT);
  QTAILQ_INIT(&s->slots);
  s->next_uid = FIRST_UID;
  s->vcpus = bitmap_new(machine_cpus());
  memory_region_init_io(&s->registers, OBJECT(s), &registers_ops, s, TYPE_NITRO_ENCLAVES, REGISTERS_SIZE);
  pci_register_bar(device, REGISTERS_BAR, PCI_BASE_ADDRESS_SPACE_MEMORY, &s->registers);
}

static void unrealize(PCIDevice* device) {
  NitroEnclaves* s = NITRO_ENCLAVES(device);

  free_all_slots(s);
  g_clear_pointer(&s->vcpus, g_free);
  g_clear_pointer(&s->trace_file, fclose);
  msix_uninit_exclusive_bar(device);
}

static const Property properties[] = {
    DEFINE_PROP_STRING("image-dir", NitroEnclaves, image_dir),
    DEFINE_PROP_STRING("trace", NitroEnclaves, trace),
    DEFINE_PROP_UINT32("max-slots", NitroEnclaves, max_slots, 64),
    DEFINE_PROP_UINT32("max-regions", NitroEnclaves, max_regions, 4096),
};

static const VMStateDescription vmstate = {.name = TYPE_NITRO_ENCLAVES, .unmigratable = 1};

static void class_init(ObjectClass* class, void* data) {
  DeviceClass* device = DEVICE_CLASS(class);
  PCIDeviceClass* pci = PCI_DEVICE_CLASS(class);

  pci->realize = realize;
  pci->exit = unrealize;
  pci->vendor_id = NE_VENDOR_ID;
  pci->device_id = NE_DEVICE_ID;
  pci->class_id = PCI_CLASS_OTHERS;
  pci->revision = 1;
  device->desc = "Nitro Enclaves of a parent instance";
  device->vmsd = &vmstate;
  device_class_set_props(device, properties);
  set_bit(DEVICE_CATEGORY_MISC, device->categories);
  RESETTABLE_CLASS(class)->phases.hold = reset_hold;
  object_class_property_add(class, "crash", "uint64", NULL, set_crash, NULL, NULL);
  object_class_property_set_description(class, "crash", "ends the running enclave with this CID");
}

static const TypeInfo types[] = {
    {
        .name = TYPE_NITRO_ENCLAVES,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(NitroEnclaves),
        .class_init = class_init,
        .interfaces = (InterfaceInfo[]){{INTERFACE_CONVENTIONAL_PCI_DEVICE}, {}},
    },
};

DEFINE_TYPES(types)
