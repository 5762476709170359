# SPDX-License-Identifier: Apache-2.0
# For habit: `make NAME` is `./dev NAME`, and `make proxify` leaves ./proxify.
names = run test test-asan bench build lint fmt install

help: ; @./dev help
$(names): ; @./dev $@
proxify: ; @./dev build

.PHONY: help proxify $(names)
