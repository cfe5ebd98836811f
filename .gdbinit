# Printers for gdb: `gdb -x .gdbinit ...`, or `make debug`. Each is documented: help pyglue-NAME.
set print pretty on
set pagination off
set breakpoint pending on
handle SIGUSR1 nostop noprint pass
handle SIGPIPE nostop noprint pass

define pyglue-str
  if $arg0.len
    printf "%d bytes: ", (int)$arg0.len
    output *(char *)$arg0.ptr@(int)$arg0.len
    printf "\n"
  else
    printf "empty\n"
  end
end
document pyglue-str
pyglue-str SLICE: the bytes of a pyglue_str_t.
end

define pyglue-text
  printf "%s", (char *)$arg0 + $arg1.offset
end
document pyglue-text
pyglue-text SNAPSHOT SLICE: one text of a snapshot, where the slice is a field of it.
end

define pyglue-snapshot
  printf "request %lu, flags 0x%x, body of %ld bytes\n", $arg0->number, $arg0->flags, $arg0->content_length
  printf "script %s", (char *)$arg0 + $arg0->script.offset
  printf ", process group '%s'", (char *)$arg0 + $arg0->process_group.offset
  printf ", application group '%s'\n", (char *)$arg0 + $arg0->application_group.offset
  set $pyglue_i = 0
  while $pyglue_i < $arg0->pair_count
    printf "  %s=", (char *)$arg0 + $arg0->pairs[$pyglue_i].key.offset
    printf "%s\n", (char *)$arg0 + $arg0->pairs[$pyglue_i].value.offset
    set $pyglue_i = $pyglue_i + 1
  end
end
document pyglue-snapshot
pyglue-snapshot POINTER: a const pyglue_snapshot_t *, with all its CGI variables.
end

define pyglue-frame
  printf "%s, %u bytes, flags %u, request %lu\n", pyglue_frame_name($arg0.type), $arg0.length, $arg0.flags, $arg0.number
end
document pyglue-frame
pyglue-frame FRAME: a pyglue_frame_t.
end

define pyglue-worker
  printf "worker %lu, state %u, %u threads, %s\n", $arg0.number, $arg0.state, $arg0.threads, $arg0.path
end
document pyglue-worker
pyglue-worker ENTRY: a pyglue_worker_entry_t, as copied from the pages.
end

define pyglue-brigade
  set $pyglue_b = $arg0->list.next
  while (char *)$pyglue_b != (char *)&$arg0->list - (unsigned long)&((apr_bucket *)0)->link
    printf "  %-8s %ld bytes\n", $pyglue_b->type->name, (long)$pyglue_b->length
    set $pyglue_b = $pyglue_b->link.next
  end
end
document pyglue-brigade
pyglue-brigade POINTER: the buckets of an apr_bucket_brigade *.
end
