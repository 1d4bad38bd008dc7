#!/usr/bin/perl
# Turns the samples of core's tests into inputs to begin with, one directory a room:
# each file as it is, each hexadecimal text in it, and each git object of the repositories.
#
#   seeds.pl ../tests/data seeds
use strict;
use warnings;

my ($from, $to) = @ARGV;
mkdir $to;
for my $room (map { s{.*/}{}r } grep { -d } glob "$from/*") {
    mkdir "$to/$room";
    my $count = 0;
    my $seed = sub {
        return if length $_[0] > 65536 || $count >= 2000;
        open my $out, '>:raw', sprintf("%s/%s/%04d", $to, $room, $count++) or die "$to/$room: $!";
        print $out $_[0];
    };
    my @waiting = ("$from/$room");
    while (defined(my $path = shift @waiting)) {
        if (-d $path) { push @waiting, glob "$path/*"; next }
        open my $in, '<:raw', $path or die "$path: $!";
        my $content = do { local $/; <$in> };
        $seed->($content) if length $content;
        if ($path =~ /\.objects\.gz$/) {
            # A line of header, then objects: "KIND LENGTH", a line's end, content.
            open my $unpacked, '-|:raw', 'gzip', '-dc', $path or die "gzip: $!";
            <$unpacked>;
            while (defined(my $head = <$unpacked>)) {
                my ($kind, $length) = $head =~ /^(\w+) (\d+)$/ or last;
                my $object;
                read $unpacked, $object, $length;
                $seed->($object);
            }
            next;
        }
        next unless $path =~ /\.(json|hex|txt)$/;
        my %seen;
        while ($content =~ /(?<![0-9A-Za-z])((?:[0-9a-f]{2}){4,})(?![0-9A-Za-z])/g) {
            $seed->(pack 'H*', $1) unless $seen{$1}++;
        }
    }
}
