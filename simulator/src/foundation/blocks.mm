// The block runtime: what clang's code calls to move a block from the stack to the heap. Captured objects are retained,
// and a block is an object: -copy, -retain, -release and collections take it.
//
// Layout: https://clang.llvm.org/docs/Block-ABI-Apple.html
#import <Foundation/Foundation.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace {

enum : int {
  kReferenceCount = 0xffff,
  kNeedsFree = 1 << 24,  // on the heap
  kHasCopyDispose = 1 << 25,
  kIsGlobal = 1 << 28,
};

enum : int {
  kFieldIsObject = 3,
  kFieldIsBlock = 7,
  kFieldIsByref = 8,
  kFieldIsWeak = 16,
  kByrefCaller = 128,  // the field belongs to a __block variable, which does not retain
};

struct Descriptor {
  unsigned long reserved;
  unsigned long size;
  void (*copy)(void* destination, const void* source);
  void (*dispose)(const void* block);
};

struct Block {
  void* isa;
  std::atomic<int> flags;
  int reserved;
  void (*invoke)(void*, ...);
  Descriptor* descriptor;
};

// A __block variable.
struct Byref {
  void* isa;
  Byref* forwarding;
  std::atomic<int> flags;
  int size;
  void (*keep)(Byref* destination, Byref* source);
  void (*destroy)(Byref*);
};

Byref* copy_byref(Byref* source) {
  Byref* current = source->forwarding;
  if (current->flags & kNeedsFree) {
    ++current->flags;
    return current;
  }
  auto* copy = static_cast<Byref*>(std::malloc(source->size));
  std::memcpy(static_cast<void*>(copy), source, source->size);
  // Two owners: the block, and the scope of the variable, which disposes of it too.
  copy->flags = (source->flags & ~kReferenceCount) | kNeedsFree | 2;
  copy->forwarding = copy;
  source->forwarding = copy;
  if (copy->flags & kHasCopyDispose) source->keep(copy, source);
  return copy;
}

void release_byref(Byref* variable) {
  variable = variable->forwarding;
  if (!(variable->flags & kNeedsFree)) return;
  if ((variable->flags.fetch_sub(1) & kReferenceCount) != 1) return;
  if (variable->flags & kHasCopyDispose) variable->destroy(variable);
  std::free(variable);
}

}  // namespace

@interface NSBlock : NSObject
@end

@interface MPSSimulatorStackBlock : NSBlock
@end
@interface MPSSimulatorHeapBlock : NSBlock
@end
@interface MPSSimulatorGlobalBlock : NSBlock
@end

// The `isa` that the compiler writes into a block is the address of one of these symbols: they are the classes.
__asm__(".globl _NSConcreteStackBlock\n"
        ".set _NSConcreteStackBlock, _OBJC_CLASS_MPSSimulatorStackBlock\n"
        ".globl _NSConcreteMallocBlock\n"
        ".set _NSConcreteMallocBlock, _OBJC_CLASS_MPSSimulatorHeapBlock\n"
        ".globl _NSConcreteGlobalBlock\n"
        ".set _NSConcreteGlobalBlock, _OBJC_CLASS_MPSSimulatorGlobalBlock\n");
extern "C" void* _NSConcreteMallocBlock[];

@implementation NSBlock

- (id)copy {
  return static_cast<id>(_Block_copy(self));
}

- (id)copyWithZone:(NSZone*)zone {
  return static_cast<id>(_Block_copy(self));
}

- (instancetype)retain {
  return self;
}

- (oneway void)release {
}

- (instancetype)autorelease {
  return self;
}

- (NSUInteger)retainCount {
  return 1;
}

@end

@implementation MPSSimulatorStackBlock
@end

@implementation MPSSimulatorGlobalBlock
@end

@implementation MPSSimulatorHeapBlock

- (instancetype)retain {
  return static_cast<id>(_Block_copy(self));
}

- (oneway void)release {
  _Block_release(self);
}

- (instancetype)autorelease {
  [NSAutoreleasePool addObject:self];
  return self;
}

- (NSUInteger)retainCount {
  return reinterpret_cast<Block*>(self)->flags & kReferenceCount;
}

@end

extern "C" {

void* _Block_copy(const void* argument) {
  auto* block = static_cast<Block*>(const_cast<void*>(argument));
  if (!block || block->flags & kIsGlobal) return block;
  if (block->flags & kNeedsFree) {
    ++block->flags;
    return block;
  }
  auto* copy = static_cast<Block*>(std::malloc(block->descriptor->size));
  std::memcpy(static_cast<void*>(copy), block, block->descriptor->size);
  copy->isa = _NSConcreteMallocBlock;
  copy->flags = (block->flags & ~kReferenceCount) | kNeedsFree | 1;
  if (copy->flags & kHasCopyDispose) copy->descriptor->copy(copy, block);
  return copy;
}

void _Block_release(const void* argument) {
  auto* block = static_cast<Block*>(const_cast<void*>(argument));
  if (!block || !(block->flags & kNeedsFree)) return;
  if ((block->flags.fetch_sub(1) & kReferenceCount) != 1) return;
  if (block->flags & kHasCopyDispose) block->descriptor->dispose(block);
  std::free(block);
}

void _Block_object_assign(void* destination, const void* object, const int flags) {
  const void*& field = *static_cast<const void**>(destination);
  switch (flags & ~kFieldIsWeak) {
    case kFieldIsObject:
      field = [(id) const_cast<void*>(object) retain];
      break;
    case kFieldIsBlock:
      field = _Block_copy(object);
      break;
    case kFieldIsByref:
      field = copy_byref(static_cast<Byref*>(const_cast<void*>(object)));
      break;
    default:  // kByrefCaller
      field = object;
  }
}

void _Block_object_dispose(const void* object, const int flags) {
  switch (flags & ~kFieldIsWeak) {
    case kFieldIsObject:
      [(id) const_cast<void*>(object) release];
      break;
    case kFieldIsBlock:
      _Block_release(object);
      break;
    case kFieldIsByref:
      release_byref(static_cast<Byref*>(const_cast<void*>(object)));
      break;
    default:  // kByrefCaller
      break;
  }
}

}  // extern "C"
